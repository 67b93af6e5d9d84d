package batch

import (
	"slices"
	"time"

	"afmq/pkg/infer"
)

// sequence is a request that waits or runs.
type sequence struct {
	job    *job
	req    *Request
	model  *infer.Model // with the adapter
	most   int          // new tokens at most, limited by the context as well
	tokens []int32      // of the prompt, then generated
	result *Result
	queued time.Time // when it was enqueued
	begun  time.Time // when it was admitted
	read   time.Time // when its first token was there

	cache  *infer.Cache
	regime int // of the prompt's rotary embedding ([model.Rope.Regime])
	exact  int // positions of the cache that were computed in the arithmetic of prompts and in regime
	// scored are the scores of the prompt's tokens so far, with ScorePrompt.
	scored []Token

	placed bool      // a source for its first tokens was looked for
	source *sequence // its first tokens are copied from there once they are computed; nil for none
	share  int       // how many
	ended  bool
}

func newSequence(j *job, r *Request, m *infer.Model, ctx int) *sequence {
	s := &sequence{job: j, req: r, model: m, result: &Result{}, queued: time.Now()}
	if r.Model != nil {
		s.model = r.Model
	}
	s.tokens = slices.Clone(r.Prompt)
	s.regime = m.Config.Rope.Regime(len(r.Prompt))
	s.most = min(r.MaxTokens, ctx-len(r.Prompt)+1) // the last one is not run
	return s
}

// begin admits the sequence.
func (s *sequence) begin(now time.Time) {
	s.begun = now
	s.result.Queued = now.Sub(s.queued)
	if s.req.ScorePrompt {
		s.scored = make([]Token, 1, len(s.req.Prompt))
		s.scored[0].ID = s.req.Prompt[0]
	}
}

// reading reports whether the prompt is not computed yet.
func (s *sequence) reading() bool { return s.cache == nil || s.cache.Len < len(s.req.Prompt) }

// next returns the tokens that have not run.
func (s *sequence) next() []int32 {
	if s.cache == nil {
		return s.tokens
	}
	return s.tokens[s.cache.Len:]
}

// length is the length of the sequence by which rotary embeddings choose their frequencies: of all
// parts of the prompt that of the prompt.
func (s *sequence) length() int {
	if s.reading() {
		return len(s.req.Prompt)
	}
	return s.cache.Len + 1
}

// initialPositions is the number of generated positions that a cache has space for at first. It
// doubles when it is full.
const initialPositions = 256

// reserve makes space in the cache for n more positions.
func (s *sequence) reserve(n int) {
	prompt := len(s.req.Prompt)
	all := prompt + max(s.most-1, 0) // the last generated token is not run
	if s.cache == nil {
		s.cache = s.model.NewCache(min(all, prompt+initialPositions))
	}
	if need := s.cache.Len + n; need > s.cache.Capacity() {
		s.cache.Grow(min(all, max(need, 2*s.cache.Capacity())))
	}
}
