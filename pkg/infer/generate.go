package infer

import (
	"context"
	"math"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
)

// GenerateOptions are the options of [Model.Generate].
type GenerateOptions struct {
	MaxTokens int     // new tokens at most; 0 for as many as the model's context holds
	Sampler   Sampler // the zero value takes the most likely token
	IgnoreEOS bool    // continue past an end-of-sequence token
	// Emit, if set, is called with each new token and the text that it completes: whole
	// characters, and none for a token that ends within a character. A last call with id -1
	// has the text of an incomplete character, if there is one. Without a tokenizer the text
	// is empty.
	Emit    func(id int32, text string)
	Pool    *compute.Pool // nil for Threads workers of its own
	Threads int           // where Pool is nil; 0 for all cores
}

// Generation is a continuation of a prompt.
type Generation struct {
	PromptTokens int
	Tokens       []int32 // new tokens
	// Text is that of the new tokens, without special tokens, as it continues the prompt: some
	// tokenizers omit a space at the beginning of a text. It is empty if the model has no tokenizer.
	Text string
	// StopReason is "eos", "length" (MaxTokens reached) or "context" (the model's
	// max_position_embeddings reached).
	StopReason string
}

// initialPositions is the capacity of the first cache of a generation. It doubles when it is
// full: a context may be far longer than the text that fits in memory.
const initialPositions = 1024

// Generate continues the prompt, given as token ids, one token at a time. A model without a
// tokenizer ([OpenWeights]) may generate any id of the vocabulary, and Text stays empty; with
// one, only ids that the tokenizer has are generated. Generate fails with
// [fault.Usage] if the prompt is empty or has an id outside the vocabulary, with
// [fault.Infeasible] if it fills the context, with [fault.Input] if the logits are not finite,
// and with ctx.Err().
func (m *Model) Generate(ctx context.Context, prompt []int32, opts GenerateOptions) (g *Generation, err error) {
	if err := m.checkPrompt(prompt, opts.MaxTokens); err != nil {
		return nil, err
	}
	maxTokens := m.Config.MaxPositions - len(prompt) + 1 // the last token that is written is not run
	if opts.MaxTokens > 0 {
		maxTokens = min(maxTokens, opts.MaxTokens)
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	defer func() {
		if err != nil {
			g = nil
		}
	}()
	defer compute.Recover(&err)
	g = &Generation{PromptTokens: len(prompt)}
	runner := m.NewRunner(pool.WithContext(ctx))
	positions := len(prompt) + maxTokens - 1
	cache := m.NewCache(min(positions, max(initialPositions, 2*len(prompt))))
	text, limit := m.textDecoder(prompt)
	emit := func(id int32, text string) {
		g.Text += text
		if opts.Emit != nil {
			opts.Emit(id, text)
		}
	}
	logits := make([]float32, m.Config.VocabSize)
	for next := prompt; ; next = g.Tokens[len(g.Tokens)-1:] {
		if len(g.Tokens) == maxTokens {
			g.StopReason = "context"
			if maxTokens == opts.MaxTokens {
				g.StopReason = "length"
			}
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if cache.Len+len(next) > cache.Capacity() {
			cache.Grow(min(positions, 2*cache.Capacity()))
		}
		hidden := runner.Forward([]Segment{{Cache: cache, Tokens: next}})
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
		emit(id, text.Next(id))
	}
	if rest := text.Flush(); rest != "" {
		emit(-1, rest)
	}
	return g, nil
}

// textDecoder converts generated tokens to text; see [tokenizer.Stream].
type textDecoder interface {
	Next(id int32) string
	Flush() string
}

// noText is the textDecoder of a model without a tokenizer.
type noText struct{}

func (noText) Next(int32) string { return "" }
func (noText) Flush() string     { return "" }

// textDecoder returns the decoder for a continuation of the prompt, and the number of ids to sample from. The
// head may have more rows than the tokenizer has ids.
func (m *Model) textDecoder(prompt []int32) (textDecoder, int) {
	if m.Tokenizer == nil {
		return noText{}, m.Config.VocabSize
	}
	return m.Tokenizer.StreamAfter(prompt, true), int(m.Tokenizer.MaxID()) + 1
}

func (m *Model) checkPrompt(prompt []int32, maxTokens int) error {
	switch {
	case maxTokens < 0:
		return fault.Usagef("%d new tokens; expected 0 or more", maxTokens)
	case len(prompt) == 0:
		return fault.Usagef("the prompt has no tokens").
			WithHint("give --prompt some text; this tokenizer adds no token of its own to an empty one")
	case len(prompt) >= m.Config.MaxPositions:
		return fault.Infeasiblef("the prompt has %d tokens; the model's context of %d has no space for another", len(prompt), m.Config.MaxPositions)
	}
	for _, id := range prompt {
		if id < 0 || int(id) >= m.Config.VocabSize {
			return fault.Usagef("the prompt has token id %d; the vocabulary has %d", id, m.Config.VocabSize)
		}
	}
	return nil
}
