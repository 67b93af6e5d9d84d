package eval

import (
	"context"
	"math"
	"slices"
	"time"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// evaluator holds the state of one evaluation.
type evaluator struct {
	pool      *compute.Pool
	corpus    *Corpus
	opts      ScoreOptions
	bos       int32 // replaces each window's first token; -1 for none
	tokens    int   // tokens run through each model, context included
	rows      int   // rows of logits computed at once
	bytes     int64 // of the scored tokens' text
	models    []*modelScores
	reference *referenceScores // nil without one
	logits    []float32        // [rows, vocab], of one model
	row       []rowScore       // [rows], of one model
}

// modelScores is a model with the scores of the tokens so far.
type modelScores struct {
	model    *infer.Model
	passes   *passes
	hidden   []float32 // [tokens of the batch, hidden]
	nats, kl []float64 // of each scored token; kl is empty without a reference
	deltaP2  float64   // sum of squared differences of probability
	sameTop1 int       // tokens with the reference's most likely token
	seconds  float64
}

// referenceScores is the reference, with the scores that all models share.
type referenceScores struct {
	modelScores
	logits []float32 // [rows, vocab]
	lse    []float64 // [rows], log Σ exp of the logits
	top    []int32   // [rows], most likely token
}

type rowScore struct {
	nats, kl float64
	sameTop1 bool
}

func newEvaluator(pool *compute.Pool, models []*infer.Model, corpus *Corpus, opts ScoreOptions, windows []window) *evaluator {
	vocab := models[0].Config.VocabSize
	e := &evaluator{pool: pool, corpus: corpus, opts: opts, bos: -1, rows: infer.LogitRows(vocab)}
	if opts.Protocol == LlamaCpp {
		if id, ok := models[0].Tokenizer.BOS(); ok {
			e.bos = id
		}
	}
	scored, longest := 0, 0
	for _, w := range windows {
		e.tokens += w.len()
		scored += w.scored()
		longest = max(longest, w.len())
		for _, b := range corpus.Bytes[w.start+w.score : w.end] {
			e.bytes += int64(b)
		}
	}
	for i, m := range models {
		s := &modelScores{model: m, nats: make([]float64, 0, scored)}
		for _, before := range e.models[:i] {
			if before.model.Config == m.Config {
				s.passes = before.passes
			}
		}
		if s.passes == nil {
			s.passes = e.newPasses(m, pool, longest)
		}
		e.models = append(e.models, s)
	}
	if m := opts.Reference; m != nil {
		if opts.ReferenceArithmetic != nil {
			pool = pool.With(*opts.ReferenceArithmetic)
		}
		r := &referenceScores{logits: make([]float32, e.rows*vocab), lse: make([]float64, e.rows), top: make([]int32, e.rows)}
		r.model, r.nats, r.passes = m, make([]float64, 0, scored), e.newPasses(m, pool, longest)
		e.reference = r
	}
	e.logits, e.row = make([]float32, e.rows*vocab), make([]rowScore, e.rows)
	return e
}

// newPasses returns passes that report their layers.
func (e *evaluator) newPasses(m *infer.Model, pool *compute.Pool, longest int) *passes {
	r := m.NewRunner(pool)
	r.OnLayer(func(tokens int) { e.opts.Progress.Advance(int64(tokens) * m.LayerWork()) })
	return &passes{runner: r, longest: longest}
}

// work returns the work of the evaluation: that of all layers and logits.
func (e *evaluator) work() (n int64) {
	all := e.models
	if e.reference != nil {
		all = append(slices.Clone(all), &e.reference.modelScores)
	}
	for _, m := range all {
		n += int64(e.tokens)*m.model.ForwardWork() + int64(cap(m.nats))*m.model.HeadWork()
	}
	return n
}

// passes runs the forward passes of models of one config.
type passes struct {
	runner interface {
		Use(m *infer.Model)
		Forward(batch []infer.Segment) []float32
		Logits(logits, hidden []float32, n int)
	}
	longest int            // tokens of the longest window
	caches  []*infer.Cache // one per window of a batch
}

// forward runs the windows from empty caches and returns a copy of the hidden states in
// hidden, which grows as needed.
func (p *passes) forward(m *infer.Model, tokens [][]int32, hidden []float32) []float32 {
	batch := make([]infer.Segment, len(tokens))
	for i, t := range tokens {
		if i == len(p.caches) {
			p.caches = append(p.caches, m.NewCache(p.longest))
		}
		p.caches[i].Reset()
		batch[i] = infer.Segment{Cache: p.caches[i], Tokens: t}
	}
	p.runner.Use(m)
	return append(hidden[:0], p.runner.Forward(batch)...)
}

// run scores a batch of windows with every model.
func (e *evaluator) run(ctx context.Context, windows []window) error {
	tokens := make([][]int32, len(windows))
	for i, w := range windows {
		tokens[i] = e.corpus.IDs[w.start:w.end]
		if e.bos >= 0 {
			tokens[i] = slices.Clone(tokens[i])
			tokens[i][0] = e.bos
		}
	}
	forward := func(m *modelScores) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		defer m.clock()()
		m.hidden = m.passes.forward(m.model, tokens, m.hidden)
		return nil
	}
	if e.reference != nil {
		if err := forward(&e.reference.modelScores); err != nil {
			return err
		}
	}
	for _, m := range e.models {
		if err := forward(m); err != nil {
			return err
		}
	}
	first := 0
	for i, w := range windows {
		// The hidden state of token p predicts token p+1.
		for p := w.score; p < w.len(); p += e.rows {
			rows := min(e.rows, w.len()-p)
			if err := e.score(first+p-1, tokens[i][p:p+rows], w.start+p); err != nil {
				return err
			}
		}
		first += w.len()
	}
	return nil
}

// score scores the tokens targets, which are predicted by the hidden states from row first
// on. at is the index of the first target in the corpus, for errors.
func (e *evaluator) score(first int, targets []int32, at int) error {
	if e.reference != nil {
		if err := e.scoreReference(first, targets, at); err != nil {
			return err
		}
	}
	for _, m := range e.models {
		if err := e.scoreModel(m, first, targets, at); err != nil {
			return err
		}
	}
	return nil
}

// clock starts a clock and returns the function that adds its time to m.seconds.
func (m *modelScores) clock() func() {
	begun := time.Now()
	return func() { m.seconds += time.Since(begun).Seconds() }
}

// computeLogits computes the logits [n, vocab] of n hidden states from row first on, and reports
// the work to p.
func (m *modelScores) computeLogits(p progress.Reporter, logits []float32, first, n int) {
	d := m.model.Config.HiddenSize
	m.passes.runner.Use(m.model)
	m.passes.runner.Logits(logits, m.hidden[first*d:(first+n)*d], n)
	p.Advance(int64(n) * m.model.HeadWork())
}

func (e *evaluator) scoreReference(first int, targets []int32, at int) error {
	r, n := e.reference, len(targets)
	defer r.clock()()
	r.computeLogits(e.opts.Progress, r.logits, first, n)
	vocab := r.model.Config.VocabSize
	e.pool.Run(n, func(_, i int) {
		q := r.logits[i*vocab : (i+1)*vocab]
		r.lse[i], r.top[i] = kernel.LogSumExp(q), infer.Argmax(q)
	})
	for i, target := range targets {
		nats := r.lse[i] - float64(r.logits[i*vocab+int(target)])
		if !finite(nats) {
			return fault.Inputf(r.model.Dir, "the reference's loss at token %d of %s is %v; its weights or activations overflow", at+i, e.corpus.File, nats)
		}
		r.nats = append(r.nats, nats)
	}
	return nil
}

func (e *evaluator) scoreModel(m *modelScores, first int, targets []int32, at int) error {
	r, n := e.reference, len(targets)
	defer m.clock()()
	m.computeLogits(e.opts.Progress, e.logits, first, n)
	vocab := m.model.Config.VocabSize
	e.pool.Run(n, func(_, i int) {
		p := e.logits[i*vocab : (i+1)*vocab]
		lse := kernel.LogSumExp(p)
		s := rowScore{nats: lse - float64(p[targets[i]])}
		if r != nil {
			s.kl = kernel.KL(r.logits[i*vocab:(i+1)*vocab], p, r.lse[i], lse)
			s.sameTop1 = infer.Argmax(p) == r.top[i]
		}
		e.row[i] = s
	})
	for i, s := range e.row[:n] {
		if !finite(s.nats) || !finite(s.kl) {
			return fault.Inputf(m.model.Dir, "the model's loss at token %d of %s is %v, its divergence %v; its weights or activations overflow", at+i, e.corpus.File, s.nats, s.kl)
		}
		m.nats = append(m.nats, s.nats)
		if r == nil {
			continue
		}
		// Rounding can give −1e-12 where the two agree.
		m.kl = append(m.kl, max(s.kl, 0))
		d := math.Exp(-s.nats) - math.Exp(-r.nats[len(m.nats)-1])
		m.deltaP2 += d * d
		if s.sameTop1 {
			m.sameTop1++
		}
	}
	return nil
}
