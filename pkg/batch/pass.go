package batch

import (
	"math"
	"slices"
	"time"

	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

// step runs one pass: a part of the prompts that are being read, and the last token of each
// sequence that is being generated.
func (e *Engine) step() {
	e.schedule()
	e.forward(&e.prefill)
	if e.decode.runner != nil {
		e.forward(&e.decode)
	}
	e.active = slices.DeleteFunc(e.active, func(s *sequence) bool { return s.ended })
	var bytes, kept int64
	for _, s := range e.active {
		if s.cache != nil {
			bytes += s.cache.Bytes()
		}
	}
	for _, p := range e.kept {
		kept += p.cache.Bytes()
	}
	e.mu.Lock()
	e.stats.CacheBytes, e.stats.PrefixBytes = bytes, kept
	e.mu.Unlock()
}

const (
	// passTime is how long a part of a prompt may hold up the sequences that are being generated.
	passTime = 100 * time.Millisecond
	// soloTime is the same if there are none: how long a new request may have to wait.
	soloTime = 500 * time.Millisecond
	// minPart is the smallest number of tokens of prompts in a pass: fewer take almost as long.
	minPart = 64
)

// schedule fills the lanes. The prompts share the tokens of a pass evenly, so that a long one does
// not hold up the others; which tokens run together changes no result.
func (e *Engine) schedule() {
	var reading, writing []*sequence
	for _, s := range e.active {
		switch {
		case !s.reading():
			writing = append(writing, s)
		case e.settle(s):
			reading = append(reading, s)
		}
	}
	parts := divide(reading, e.part(len(writing) > 0))
	e.prefill.reset()
	e.decode.reset()
	for i, s := range reading {
		if parts[i] > 0 {
			s.reserve(parts[i])
			e.prefill.add(s, parts[i])
		}
	}
	l := &e.prefill
	if e.decode.runner != nil {
		l = &e.decode
	}
	for _, s := range writing {
		s.reserve(1)
		l.add(s, 1)
	}
}

// part returns how many tokens of prompts the next pass has.
func (e *Engine) part(writing bool) int {
	most := soloTime
	if writing {
		most = passTime
	}
	if e.rate == 0 {
		return 4 * minPart
	}
	return min(max(int(e.rate*most.Seconds()), minPart), infer.BatchTokens)
}

// divide divides a number of tokens evenly among the prompts; what one does not need, the others
// get.
func divide(reading []*sequence, tokens int) []int {
	parts := make([]int, len(reading))
	for left := len(reading); left > 0 && tokens > 0; {
		each := max(tokens/left, 1)
		left = 0
		for i, s := range reading {
			n := min(each, len(s.next())-parts[i], tokens)
			parts[i] += n
			tokens -= n
			if parts[i] < len(s.next()) {
				left++
			}
		}
	}
	return parts
}

func (l *lane) reset() {
	clear(l.batch)
	clear(l.of)
	l.batch, l.of = l.batch[:0], l.of[:0]
}

// add adds the next n tokens of a sequence, beside those that have the same model.
func (l *lane) add(s *sequence, n int) {
	at := len(l.of)
	for i, o := range slices.Backward(l.of) {
		if o.model == s.model {
			at = i + 1
			break
		}
	}
	l.of = slices.Insert(l.of, at, s)
	l.batch = slices.Insert(l.batch, at, infer.Segment{Cache: s.cache, Tokens: s.next()[:n], Model: s.model, Length: s.length()})
}

// want is a row of logits that is needed: to score a token of a prompt, or to choose the next one.
type want struct {
	s      *sequence
	row    int // of the hidden states
	logits []float32
	score  bool // the token is given
	token  Token
}

// forward runs the batch of a lane and uses the logits.
func (e *Engine) forward(l *lane) {
	if len(l.batch) == 0 {
		return
	}
	begun := time.Now()
	hidden := l.runner.Forward(l.batch)
	wants, read := e.wants(l)
	vocab, d := e.model.Config.VocabSize, e.model.Config.HiddenSize
	for len(wants) > 0 {
		some := wants[:min(len(wants), infer.LogitRows(vocab))]
		wants = wants[len(some):]
		e.logits, e.hidden = grow(e.logits, len(some)*vocab), grow(e.hidden, len(some)*d)
		for i, w := range some {
			copy(e.hidden[i*d:(i+1)*d], hidden[w.row*d:])
			w.logits = e.logits[i*vocab : (i+1)*vocab]
		}
		l.runner.Logits(e.logits, e.hidden, len(some))
		e.picked = some
		l.pool.Run(len(some), e.pick)
		for _, w := range some {
			e.use(w)
		}
	}
	e.picked = nil
	if took := time.Since(begun); read >= minPart/2 {
		now := float64(read) / took.Seconds()
		if e.rate == 0 {
			e.rate = now
		}
		e.rate += (now - e.rate) / 4
	}
	for _, s := range l.of {
		if s.most == 0 && !s.ended && !s.reading() && s.job.ctx.Err() == nil {
			e.finish(s, Length)
		}
	}
}

// wants returns the rows of logits that the batch of a lane needs after its pass, and how many of
// its tokens were of prompts.
func (e *Engine) wants(l *lane) (wants []*want, read int) {
	row := 0
	for i, s := range l.of {
		n := len(l.batch[i].Tokens)
		at := s.cache.Len - n // position of the first
		if at < len(s.req.Prompt) {
			read += n
		}
		if l == &e.prefill && s.exact == at && (at < len(s.req.Prompt) || e.model.Config.Rope.Regime(s.cache.Len) == s.regime) {
			s.exact = s.cache.Len
		}
		if s.req.ScorePrompt {
			for t := at + 1; t <= s.cache.Len && t < len(s.req.Prompt); t++ {
				wants = append(wants, &want{s: s, row: row + t - 1 - at, score: true, token: Token{ID: s.tokens[t]}})
			}
		}
		if s.cache.Len == len(s.tokens) && s.most > 0 {
			wants = append(wants, &want{s: s, row: row + n - 1})
		}
		row += n
	}
	e.mu.Lock()
	e.stats.Passes++
	e.stats.PromptTokens += int64(read)
	e.mu.Unlock()
	return wants, read
}

// take chooses the token, if it is not given, and computes its log-probability. Only the first
// limit ids are chosen.
func (w *want) take(limit int) {
	r := w.s.req
	top := 0
	if !w.score {
		w.token.ID = r.Sampler.Next(w.logits, limit)
	}
	if w.score || r.Score {
		top = r.Top
	}
	// Without scores it is computed all the same: it is not a number if the logits are not finite.
	w.token.LogProb, w.token.Top = infer.LogProbs(w.logits, w.token.ID, top)
}

// use adds the token of a row to its sequence.
func (e *Engine) use(w *want) {
	s, t := w.s, w.token
	switch {
	case s.ended || s.job.ctx.Err() != nil:
		return
	case math.IsNaN(t.LogProb):
		s.job.cancel(fault.Inputf(e.model.Dir, "the model's logits are not finite after %d tokens", s.cache.Len))
		return
	case w.score:
		s.scored = append(s.scored, t)
		return
	}
	now := time.Now()
	if len(s.result.Tokens) == 0 {
		s.read = now
	}
	if !s.req.Score {
		t.LogProb = 0
	}
	if !s.req.IgnoreEOS && slices.Contains(e.model.Config.EOS, t.ID) {
		s.result.End = &t
		e.finish(s, EOS)
		return
	}
	s.tokens = append(s.tokens, t.ID)
	s.result.Tokens = append(s.result.Tokens, t)
	e.mu.Lock()
	e.stats.GeneratedTokens++
	e.mu.Unlock()
	switch {
	case s.req.Emit != nil && s.req.Emit(t):
		e.finish(s, Stopped)
	case len(s.result.Tokens) < s.most:
	case s.most == s.req.MaxTokens:
		e.finish(s, Length)
	default:
		e.finish(s, Context)
	}
}

// finish ends a sequence with its result.
func (e *Engine) finish(s *sequence, reason Reason) {
	now := time.Now()
	if s.read.IsZero() {
		s.read = now
	}
	r := s.result
	r.Reason, r.Prompt = reason, slices.Clone(s.scored)
	r.Reading, r.Writing = s.read.Sub(s.begun), now.Sub(s.read)
	e.keep(s)
	e.mu.Lock()
	e.stats.Finished++
	e.stats.Running--
	e.stats.CachedTokens += int64(r.Cached)
	e.mu.Unlock()
	s.job.done.Done()
}

// grow returns a slice of length n, reusing the memory of s where it suffices.
func grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}
