package eval

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// EvalOptions says how a text is scored.
type Options struct {
	Protocol Protocol
	Ctx      int // tokens in a window; 0 for min(512, max_position_embeddings)
	Stride   int // tokens between the starts of windows, for protocol stride; 0 for ctx/2
	Progress progress.Reporter
	// Reference is the arithmetic of the reference model; nil for that of the model, which is
	// the pool's.
	Reference *compute.Arithmetic
}

// Evaluation is what a model makes of a text. Nats are natural-log units.
type Result struct {
	Protocol     Protocol `json:"protocol"`
	Ctx          int      `json:"ctx"`
	Stride       int      `json:"stride,omitempty"`
	Tokens       int      `json:"tokens"` // scored tokens
	NatsPerToken float64  `json:"nats_per_token"`
	Perplexity   float64  `json:"perplexity"`
	// PerplexitySE is perplexity · s/√n, s the sample standard deviation of the
	// n tokens' nats: the delta method, with tokens taken as independent.
	PerplexitySE float64 `json:"perplexity_se"`
	// BitsPerByte is the nats in bits over the bytes of the scored tokens' text,
	// which compares models with different tokenizers; 0 if they have no text.
	BitsPerByte float64 `json:"bits_per_byte"`

	// The rest is there only with a reference model.
	*Comparison

	Seconds         float64 `json:"seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"` // tokens run through a model, per second

	// Windows are the figures of each window in which something is scored, in the order of
	// the text.
	Windows []WindowScore `json:"-"`
}

// Comparison holds a model against the reference that it was made from.
type Comparison struct {
	KL                  Divergence `json:"kl"`        // KL(reference ‖ model), nats per token
	SameTop1            float64    `json:"same_top1"` // share of tokens whose most likely token is the same
	DeltaPRMS           float64    `json:"delta_p_rms"`
	ReferencePerplexity float64    `json:"reference_perplexity"`
	PerplexityRatio     float64    `json:"perplexity_ratio"` // model over reference
}

// Divergence summarises the Kullback-Leibler divergence over the scored tokens.
// Percentiles interpolate linearly between the nearest ranks.
type Divergence struct {
	Mean   float64 `json:"mean"`
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
	P999   float64 `json:"p999"`
	Max    float64 `json:"max"`
}

// Evaluate scores the corpus with the model, and, where reference is not nil,
// compares the model with it token by token. Both see the same ids, so they must
// have the same tokenizer; see [SameTokenizer]. Logits are reduced as they come
// and never kept.
func Run(ctx context.Context, pool *compute.Pool, model, reference *infer.Model, corpus *Corpus, opts Options) (*Result, error) {
	if err := opts.resolve(model, reference); err != nil {
		return nil, err
	}
	windows, err := opts.cut(len(corpus.IDs))
	if err != nil {
		return nil, fault.Inputf(corpus.File, "%v", err)
	}
	e := newEvaluator(pool, model, reference, corpus, opts, windows)
	begun := time.Now()
	opts.Progress.Stage("evaluating", int64(e.tokens), "tokens")
	for first, end := range infer.Batches(len(windows), infer.BatchTokens, func(i int) int { return windows[i].len() }) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := e.run(windows[first:end]); err != nil {
			return nil, err
		}
		for _, w := range windows[first:end] {
			opts.Progress.Advance(int64(w.len()))
		}
	}
	opts.Progress.Done()
	r, err := e.result(time.Since(begun).Seconds())
	if err != nil {
		return nil, err
	}
	r.Windows = windowScores(windows, e.nats, e.refNats, e.kl)
	return r, nil
}

func (o *Options) resolve(model, reference *infer.Model) error {
	positions := model.Config.MaxPositions
	if reference != nil {
		if a, b := model.Config.VocabSize, reference.Config.VocabSize; a != b {
			return fault.Inputf(reference.Dir, "the reference has %d vocabulary entries, the model %d", b, a)
		}
		positions = min(positions, reference.Config.MaxPositions)
	}
	if o.Protocol == "" {
		o.Protocol = Chunk
	}
	if o.Ctx == 0 {
		o.Ctx = min(512, positions)
	}
	if o.Protocol == Stride && o.Stride == 0 {
		o.Stride = max(o.Ctx/2, 1)
	}
	if o.Progress == nil {
		o.Progress = progress.Silent
	}
	return o.check(positions)
}

// evaluator holds the buffers and running results of one evaluation.
type evaluator struct {
	pool    *compute.Pool
	corpus  *Corpus
	opts    Options
	model   side
	ref     *side // nil without a reference
	bos     int32 // replaces each window's first token; -1 for none
	tokens  int   // tokens to run, context included
	rows    int   // rows of logits computed at once
	nats    []float64
	refNats []float64
	kl      []float64
	deltaP2 float64
	same    int
	bytes   int64
	row     []rowResult
}

// side is one of the two models, with its state.
type side struct {
	runner *infer.Runner
	caches []*infer.Cache
	logits []float32 // [rows, vocab]
}

type rowResult struct {
	nats, refNats, kl float64
	same              bool
}

func newEvaluator(pool *compute.Pool, model, reference *infer.Model, corpus *Corpus, opts Options, windows []window) *evaluator {
	vocab := model.Config.VocabSize
	e := &evaluator{pool: pool, corpus: corpus, opts: opts, bos: -1, rows: infer.LogitRows(vocab)}
	if id, ok := model.Tokenizer.BOS(); ok && opts.Protocol == LlamaCpp {
		e.bos = id
	}
	e.model = side{runner: model.NewRunner(pool), logits: make([]float32, e.rows*vocab)}
	if reference != nil {
		refPool := pool
		if opts.Reference != nil {
			refPool = pool.With(*opts.Reference)
		}
		e.ref = &side{runner: reference.NewRunner(refPool), logits: make([]float32, e.rows*vocab)}
	}
	scored := 0
	for _, w := range windows {
		e.tokens += w.len()
		scored += w.scored()
		for _, b := range corpus.Bytes[w.start+w.score : w.end] {
			e.bytes += int64(b)
		}
	}
	e.nats = make([]float64, 0, scored)
	e.row = make([]rowResult, e.rows)
	return e
}

// forward runs the windows from empty caches and returns the hidden states.
func (s *side) forward(windows []window, tokens [][]int32, ctx int) []float32 {
	batch := make([]infer.Segment, len(windows))
	for i := range windows {
		if i == len(s.caches) {
			s.caches = append(s.caches, s.runner.Model().NewCache(ctx))
		}
		s.caches[i].Reset()
		batch[i] = infer.Segment{Cache: s.caches[i], Tokens: tokens[i]}
	}
	return s.runner.Forward(batch)
}

// run scores a batch of windows.
func (e *evaluator) run(windows []window) error {
	tokens := make([][]int32, len(windows))
	for i, w := range windows {
		tokens[i] = e.corpus.IDs[w.start:w.end]
		if e.bos >= 0 {
			tokens[i] = slices.Clone(tokens[i])
			tokens[i][0] = e.bos
		}
	}
	hidden := e.model.forward(windows, tokens, e.opts.Ctx)
	var refHidden []float32
	if e.ref != nil {
		refHidden = e.ref.forward(windows, tokens, e.opts.Ctx)
	}
	first := 0
	for i, w := range windows {
		// The state of token p predicts token p+1.
		for p := w.score; p < w.len(); p += e.rows {
			n := min(e.rows, w.len()-p)
			if err := e.score(hidden, refHidden, first+p-1, tokens[i][p:p+n], w.start+p); err != nil {
				return err
			}
		}
		first += w.len()
	}
	return nil
}

// score computes the logits of the states from row first on and reduces them.
// at is the index of the first target in the corpus, for errors.
func (e *evaluator) score(hidden, refHidden []float32, first int, targets []int32, at int) error {
	n := len(targets)
	logitsOf := func(s *side, hidden []float32) {
		d := s.runner.Model().Config.HiddenSize
		s.runner.Logits(s.logits, hidden[first*d:(first+n)*d], n)
	}
	logitsOf(&e.model, hidden)
	if e.ref != nil {
		logitsOf(e.ref, refHidden)
	}
	vocab := e.model.runner.Model().Config.VocabSize
	e.pool.Run(n, func(_, i int) {
		p := e.model.logits[i*vocab : (i+1)*vocab]
		lse := kernel.LogSumExp(p)
		r := rowResult{nats: lse - float64(p[targets[i]])}
		if e.ref != nil {
			q := e.ref.logits[i*vocab : (i+1)*vocab]
			refLSE := kernel.LogSumExp(q)
			r.refNats = refLSE - float64(q[targets[i]])
			r.kl = kernel.KL(q, p, refLSE, lse)
			r.same = infer.Argmax(p) == infer.Argmax(q)
		}
		e.row[i] = r
	})
	for i, r := range e.row[:n] {
		if !finite(r.nats) {
			return fault.Inputf(e.model.runner.Model().Dir, "the model's loss at token %d of %s is %v; its weights or activations overflow", at+i, e.corpus.File, r.nats)
		}
		e.nats = append(e.nats, r.nats)
		if e.ref == nil {
			continue
		}
		if !finite(r.refNats) || !finite(r.kl) {
			return fault.Inputf(e.ref.runner.Model().Dir, "the reference's loss at token %d of %s is %v, the divergence %v", at+i, e.corpus.File, r.refNats, r.kl)
		}
		e.refNats = append(e.refNats, r.refNats)
		// Rounding can leave a divergence of −1e-12 where the two agree.
		e.kl = append(e.kl, max(r.kl, 0))
		d := math.Exp(-r.nats) - math.Exp(-r.refNats)
		e.deltaP2 += d * d
		if r.same {
			e.same++
		}
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func (e *evaluator) result(seconds float64) (*Result, error) {
	mean, sd := meanSD(e.nats)
	n := float64(len(e.nats))
	r := &Result{
		Protocol: e.opts.Protocol, Ctx: e.opts.Ctx, Stride: e.opts.Stride,
		Tokens: len(e.nats), NatsPerToken: mean, Perplexity: math.Exp(mean),
		Seconds: seconds, TokensPerSecond: float64(e.tokens) / seconds,
	}
	r.PerplexitySE = r.Perplexity * sd / math.Sqrt(n)
	if e.bytes > 0 {
		r.BitsPerByte = mean * n / math.Ln2 / float64(e.bytes)
	}
	if e.ref != nil {
		refMean, _ := meanSD(e.refNats)
		r.Comparison = &Comparison{
			KL:                  divergence(e.kl),
			SameTop1:            float64(e.same) / n,
			DeltaPRMS:           math.Sqrt(e.deltaP2 / n),
			ReferencePerplexity: math.Exp(refMean),
			PerplexityRatio:     math.Exp(mean - refMean),
		}
		r.TokensPerSecond *= 2
	}
	if !finite(r.Perplexity) || !finite(r.PerplexitySE) {
		return nil, fmt.Errorf("%s: %v nats per token is beyond what a perplexity can express", e.model.runner.Model().Dir, mean)
	}
	return r, nil
}

// meanSD returns the mean and the sample standard deviation, 0 for one value.
func meanSD(x []float64) (mean, sd float64) {
	if len(x) == 1 {
		return x[0], 0
	}
	return stat.MeanStdDev(x, nil)
}

func divergence(kl []float64) Divergence {
	mean, _ := meanSD(kl)
	sorted := slices.Sorted(slices.Values(kl))
	at := func(q float64) float64 {
		f := q * float64(len(sorted)-1)
		i := int(f)
		if i+1 >= len(sorted) {
			return sorted[len(sorted)-1]
		}
		return sorted[i] + (f-float64(i))*(sorted[i+1]-sorted[i])
	}
	return Divergence{Mean: mean, Median: at(0.5), P99: at(0.99), P999: at(0.999), Max: sorted[len(sorted)-1]}
}
