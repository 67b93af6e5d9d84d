package batch

import (
	"slices"

	"afmq/pkg/infer"
)

// prefix is what is kept of a finished sequence.
type prefix struct {
	model  *infer.Model
	regime int
	tokens []int32 // those of the cache that were computed in the arithmetic of prompts and in regime
	cache  *infer.Cache
	scored []Token // scores of the first tokens
	top    int     // with this many of the most likely tokens
}

// minShare is the number of tokens from which on a common beginning is worth a copy.
const minShare = 4

// common returns the number of tokens with which both begin.
func common(a, b []int32) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// shareOf returns how many positions a sequence can take from one with the given prompt tokens, if
// it is computed; scored is the number of its tokens that have scores, with top most likely ones.
// The last token of the prompt always runs: its logits are needed. If the prompt is scored, so is
// the last token in common, whose logits give the score of the one that follows.
func (s *sequence) shareOf(tokens []int32, scored, top int) int {
	n := common(tokens, s.req.Prompt)
	share := min(n, len(s.req.Prompt)-1)
	if s.req.ScorePrompt {
		if s.req.Top > top {
			return 0
		}
		share = min(share, min(n, scored)-1)
	}
	if share < minShare {
		return 0
	}
	return share
}

// place looks for a sequence that begins as s does: a kept one, from which the positions are
// copied at once, or an earlier active one, for which s waits.
func (e *Engine) place(s *sequence) {
	s.placed, s.source, s.share = true, nil, 0
	var from *prefix
	for _, p := range e.kept {
		if p.model != s.model || p.regime != s.regime {
			continue
		}
		if n := s.shareOf(p.tokens, len(p.scored), p.top); n > s.share && p.cache.Holds(n) {
			from, s.share = p, n
		}
	}
	for _, a := range e.active {
		if a == s {
			break
		}
		if a.model != s.model || a.regime != s.regime {
			continue
		}
		scored := 0
		if a.req.ScorePrompt {
			scored = len(a.req.Prompt)
		}
		if n := s.shareOf(a.req.Prompt, scored, a.req.Top); n > s.share {
			from, s.source, s.share = nil, a, n
		}
	}
	if from != nil {
		e.copyKept(s, from)
	}
}

// copyKept copies the first positions of a kept sequence to s. One that s contains is kept no
// longer: s will be.
func (e *Engine) copyKept(s *sequence, p *prefix) {
	e.copyPositions(s, p.cache, p.scored)
	e.kept = slices.DeleteFunc(e.kept, func(k *prefix) bool { return k == p })
	if common(p.tokens, s.req.Prompt) < len(p.tokens) {
		e.kept = append(e.kept, p)
	}
}

// copyPositions copies the first s.share positions and their scores.
func (e *Engine) copyPositions(s *sequence, from *infer.Cache, scored []Token) {
	s.reserve(len(s.req.Prompt))
	if !s.cache.CopyPrefix(from, s.share) {
		return
	}
	s.exact = s.share
	s.result.Cached = s.share
	if s.req.ScorePrompt {
		for _, t := range scored[1 : s.share+1] {
			t.Top = slices.Clone(t.Top[:s.req.Top])
			if s.req.Top == 0 {
				t.Top = nil
			}
			s.scored = append(s.scored, t)
		}
	}
}

// settle decides whether a sequence that is being read can run: it copies what it waits for if
// that is computed, and looks for another source if the one that it waits for has ended.
func (e *Engine) settle(s *sequence) bool {
	if !s.placed {
		e.place(s)
	}
	if s.source == nil {
		return true
	}
	a := s.source
	switch {
	case a.ended:
		e.place(s)
		return s.source == nil
	case a.cache == nil || a.cache.Len < s.share:
		return false
	}
	s.source = nil
	if a.cache.Holds(s.share) {
		e.copyPositions(s, a.cache, a.scored)
	}
	return true
}

// keep keeps the positions of an ended sequence for later ones, and discards the least recently
// used ones that exceed the memory for them.
func (e *Engine) keep(s *sequence) {
	s.ended = true
	if s.cache == nil || s.exact < minShare || e.opts.PrefixBytes < 0 {
		return
	}
	n := min(s.exact, s.cache.Len)
	if !s.cache.Truncate(n) {
		return
	}
	p := &prefix{model: s.model, regime: s.regime, tokens: s.tokens[:n], cache: s.cache, scored: s.scored, top: s.req.Top}
	e.kept = slices.DeleteFunc(e.kept, func(k *prefix) bool {
		return k.model == p.model && k.regime == p.regime && len(k.scored) <= len(p.scored) && k.top <= p.top &&
			common(k.tokens, p.tokens) == len(k.tokens)
	})
	e.kept = append(e.kept, p)
	var sum int64
	for i := len(e.kept) - 1; i >= 0; i-- {
		sum += e.kept[i].cache.Bytes()
		if sum > e.opts.PrefixBytes {
			e.kept = slices.Delete(e.kept, 0, i+1)
			break
		}
	}
}
