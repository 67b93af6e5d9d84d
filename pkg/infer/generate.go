package infer

import (
	"context"
	"math"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
)

// GenerateOptions says how to continue a prompt.
type GenerateOptions struct {
	MaxTokens int // new tokens at most; the model's context ends it earlier
	Sampler   Sampler
	IgnoreEOS bool // go on past an end-of-sequence token
	// Emit, if set, receives each generated token and the text that it completes.
	Emit func(id int32, text string)
}

// Generation is what a model wrote.
type Generation struct {
	PromptTokens int
	Tokens       []int32
	Text         string
	// StopReason is "eos", "length" (MaxTokens reached) or "context" (the
	// model's max_position_embeddings reached).
	StopReason string
}

// Generate continues the prompt, given as token ids, one token at a time.
func (m *Model) Generate(ctx context.Context, pool *compute.Pool, prompt []int32, opts GenerateOptions) (*Generation, error) {
	if len(prompt) == 0 {
		return nil, fault.Usagef("the prompt has no tokens")
	}
	if len(prompt) >= m.Config.MaxPositions {
		return nil, fault.Infeasiblef("the prompt has %d tokens; the model's context has room for %d and one more to write", len(prompt), m.Config.MaxPositions-1)
	}
	for _, id := range prompt {
		if id < 0 || int(id) >= m.Config.VocabSize {
			return nil, fault.Usagef("the prompt has token id %d; the vocabulary has %d", id, m.Config.VocabSize)
		}
	}
	g := &Generation{PromptTokens: len(prompt)}
	runner := m.NewRunner(pool)
	cache := m.NewCache(min(len(prompt)+opts.MaxTokens, m.Config.MaxPositions))
	stream := m.Tokenizer.Stream(true)
	emit := func(id int32, text string) {
		g.Text += text
		if opts.Emit != nil {
			opts.Emit(id, text)
		}
	}
	logits := make([]float32, m.Config.VocabSize)
	limit := int(m.Tokenizer.MaxID()) + 1
	next := prompt
	for {
		if len(g.Tokens) == opts.MaxTokens {
			g.StopReason = "length"
			break
		}
		if cache.Len+len(next) > m.Config.MaxPositions {
			g.StopReason = "context"
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		hidden := runner.Forward([]Segment{{cache, next}})
		runner.Logits(logits, hidden[(len(next)-1)*m.Config.HiddenSize:], 1)
		if math.IsNaN(kernel.LogSumExp(logits)) {
			return nil, fault.Inputf(m.Dir, "the model's logits are not finite after %d tokens", cache.Len)
		}
		id := opts.Sampler.Next(logits, limit)
		if slices.Contains(m.Config.EOS, id) && !opts.IgnoreEOS {
			g.StopReason = "eos"
			break
		}
		g.Tokens = append(g.Tokens, id)
		emit(id, stream.Next(id))
		next = g.Tokens[len(g.Tokens)-1:]
	}
	if rest := stream.Flush(); rest != "" {
		emit(-1, rest)
	}
	return g, nil
}
