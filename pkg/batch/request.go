package batch

import (
	"time"

	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

// Request is a prompt to continue or to score.
type Request struct {
	// Model is the engine's model or one with an adapter that its WithAdapter returned; nil is
	// the engine's model.
	Model  *infer.Model
	Prompt []int32 // token ids, at least one
	// MaxTokens is the number of tokens to generate at most. 0 generates none, which is of use
	// with ScorePrompt only.
	MaxTokens int
	// Sampler chooses the tokens. It must have been seeded ([infer.Sampler.Seed]) unless its
	// temperature is 0, and must not be used elsewhere.
	Sampler   infer.Sampler
	IgnoreEOS bool // continue past an end-of-sequence token

	Score       bool // compute the log-probabilities of the generated tokens
	ScorePrompt bool // compute those of the prompt's tokens
	Top         int  // with either, also those of this many of the most likely tokens at each place

	// Emit, if set, is called with each generated token, as soon as it is there; the request
	// ends if it returns true. It runs on the goroutine that runs all requests, so it must not
	// wait for anything.
	Emit func(t Token) (stop bool)
}

// Token is a token of a prompt or of a continuation.
type Token struct {
	ID int32
	// LogProb is the natural logarithm of the probability of the token after those before it. It
	// is 0 if the request did not ask for it, and for the first token of a prompt.
	LogProb float64
	Top     []infer.LogProb // the most likely tokens at its place, in descending order
}

// Reason says why a continuation ended.
type Reason string

const (
	EOS     Reason = "eos"     // the model generated an end-of-sequence token
	Stopped Reason = "stop"    // Emit returned true
	Length  Reason = "length"  // MaxTokens were generated
	Context Reason = "context" // the context is full
)

// Result is the answer to a request.
type Result struct {
	Prompt []Token // with ScorePrompt, else nil
	Tokens []Token // generated, without an end-of-sequence token that ended them
	End    *Token  // the end-of-sequence token that ended them; nil for another reason
	Reason Reason
	Cached int // tokens of the prompt whose keys and values were taken from another sequence

	Queued  time.Duration // before the first pass
	Reading time.Duration // from there to the first token, or to the end if there is none
	Writing time.Duration // from there to the last token
}

// check validates a request for an engine of model m whose sequences have at most ctx positions.
func (r *Request) check(m *infer.Model, ctx int) error {
	switch {
	case r.Model != nil && r.Model.Config != m.Config:
		return fault.Usagef("the model of a request has another config than that of the engine")
	case len(r.Prompt) == 0:
		return fault.Usagef("the prompt has no tokens")
	case r.MaxTokens < 0:
		return fault.Usagef("%d new tokens; expected 0 or more", r.MaxTokens)
	case r.Top < 0:
		return fault.Usagef("the %d most likely tokens; expected 0 or more", r.Top)
	case len(r.Prompt) > ctx:
		return fault.Infeasiblef("the prompt has %d tokens; the context has %d", len(r.Prompt), ctx)
	}
	for _, id := range r.Prompt {
		if id < 0 || int(id) >= m.Config.VocabSize {
			return fault.Usagef("the prompt has token id %d; the vocabulary has %d", id, m.Config.VocabSize)
		}
	}
	return nil
}
