package eval

import (
	"fmt"

	"afmq/pkg/fault"
)

// Protocol says which tokens of a text are scored and how much context each is given.
// Figures of different protocols cannot be compared.
type Protocol string

const (
	// Chunk divides the text into windows of ctx tokens. Every token of a window but the
	// first is scored, given those before it in the window. A last window of one token is
	// dropped.
	Chunk Protocol = "chunk"
	// LlamaCpp is the protocol of llama.cpp's perplexity tool: full windows only, the first
	// token of each replaced by the beginning-of-sequence token if the tokenizer adds one,
	// and positions ⌊ctx/2⌋+1 to ctx−1 scored.
	LlamaCpp Protocol = "llamacpp"
	// Stride starts window k at token k·stride. Each token is scored once, in the first
	// window that has it, so that all but the first ctx have at least ctx−stride tokens
	// before them.
	Stride Protocol = "stride"
)

// ParseProtocol returns the protocol of this name. An unknown name is an error of kind
// [fault.Usage].
func ParseProtocol(name string) (Protocol, error) {
	switch p := Protocol(name); p {
	case Chunk, LlamaCpp, Stride:
		return p, nil
	}
	return "", fault.Usagef("unknown protocol %q; the protocols are chunk, llamacpp and stride", name)
}

// window is the tokens [start, end) of a text, which are run from an empty cache. Those from
// index score on, counted from start, are scored.
type window struct{ start, end, score int }

func (w window) len() int    { return w.end - w.start }
func (w window) scored() int { return w.len() - w.score }

// windows returns the windows of a text of n tokens.
func (o *ScoreOptions) windows(n int) ([]window, error) {
	if n < 2 {
		return nil, fmt.Errorf("gives %s; perplexity needs at least 2", count(n, "token"))
	}
	var out []window
	switch o.Protocol {
	case LlamaCpp:
		if n < 2*o.Ctx {
			return nil, fmt.Errorf("gives %s; protocol llamacpp with a context of %d needs at least %d", count(n, "token"), o.Ctx, 2*o.Ctx)
		}
		for start := 0; start+o.Ctx <= n; start += o.Ctx {
			out = append(out, window{start, start + o.Ctx, o.Ctx/2 + 1})
		}
	case Stride:
		for start, reached := 0, 1; reached < n; start += o.Stride {
			end := min(start+o.Ctx, n)
			out = append(out, window{start, end, reached - start})
			reached = end
		}
	default:
		for start := 0; start+1 < n; start += o.Ctx {
			out = append(out, window{start, min(start+o.Ctx, n), 1})
		}
	}
	return out, nil
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// check returns an error of kind fault.Usage unless the options suit a model of this many
// positions.
func (o *ScoreOptions) check(positions int) error {
	least := 2
	if o.Protocol == LlamaCpp {
		least = 3
	}
	switch {
	case o.Ctx < least:
		return fault.Usagef("a context of %d is too short for protocol %s; it needs at least %d", o.Ctx, o.Protocol, least)
	case o.Ctx > positions:
		return fault.Usagef("a context of %d is longer than the model's %d positions (max_position_embeddings)", o.Ctx, positions).
			WithHint("give --ctx %d or less", positions)
	case o.Protocol == Stride && (o.Stride < 1 || o.Stride >= o.Ctx):
		return fault.Usagef("a stride of %d is not between 1 and the context of %d less one", o.Stride, o.Ctx)
	case o.Protocol != Stride && o.Stride != 0:
		return fault.Usagef("a stride is for protocol stride only, not %s", o.Protocol)
	}
	return nil
}
