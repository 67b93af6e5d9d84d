package sensitivity

import (
	"context"
	"math/rand/v2"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
)

// fisherEstimator computes [Fisher]. A unit of work is a batch of sequences; it runs them
// forward and backward and contributes to the scores of all modules.
type fisherEstimator struct {
	*scorer
	batches  [][][]int32
	palettes [][]*compute.Matrix // [module][option]
	runner   *infer.Runner
	tape     *infer.Tape
	caches   []*infer.Cache
	original []float32 // output of a module, [tokens, out]
	product  []float32 // output of its palettes, [tokens, out]
	terms    []float64 // [tokens]
}

const (
	fisherTokens = 2048    // in a batch
	tapeMemory   = 1 << 30 // bytes of activations kept for the backward pass; beyond, they are recomputed
)

func newFisherEstimator(s *scorer) *fisherEstimator {
	return &fisherEstimator{scorer: s, batches: batches(s.text.Sequences, fisherTokens)}
}

func (f *fisherEstimator) units() int { return len(f.batches) }

func (f *fisherEstimator) unitName() string { return "batches" }

// work counts a multiplication with every weight forward, one backward, one for each width and,
// where they are needed, those of repeated products, and those of the logits and their gradient.
func (f *fisherEstimator) work(unit int) int64 {
	n := int64(countTokens(f.batches[unit]))
	back := int64(0)
	for i := range f.modules {
		back += f.moduleWork(&f.modules[i])
	}
	return n * (f.model.ForwardWork() + int64(f.samples)*(2*f.model.HeadWork()+back))
}

// moduleWork returns the work of the backward pass for one module and one token.
func (f *fisherEstimator) moduleWork(m *module) int64 {
	times := 1 + len(f.widths)
	if f.recompute() {
		times++
	}
	if f.models.Arithmetic() != f.pool.Arithmetic() {
		times++
	}
	return int64(times) * m.weights()
}

// recompute reports whether the activations of the largest batch are too large to be kept.
func (f *fisherEstimator) recompute() bool {
	most := 0
	for _, b := range f.batches {
		most = max(most, countTokens(b))
	}
	return f.model.TapeBytes()*int64(most) > tapeMemory
}

func (f *fisherEstimator) prepare(ctx context.Context) (err error) {
	if f.palettes, err = f.packAll(ctx); err != nil {
		return err
	}
	f.runner = f.model.NewRunner(f.models)
	f.runner.OnLayer(func(tokens int) { f.progress.Advance(int64(tokens) * f.model.LayerWork()) })
	f.tape = infer.NewTape(infer.TapeOptions{Recompute: f.recompute(), Outputs: true})
	return nil
}

func (f *fisherEstimator) run(ctx context.Context, unit int) ([]Contribution, error) {
	sequences := f.batches[unit]
	batch := make([]infer.Segment, len(sequences))
	for i, s := range sequences {
		if i == len(f.caches) {
			f.caches = append(f.caches, f.model.NewCache(f.text.Record.SeqLen))
		}
		f.caches[i].Reset()
		batch[i] = infer.Segment{Cache: f.caches[i], Tokens: s}
	}
	hidden := append([]float32(nil), f.runner.ForwardTape(batch, f.tape)...)
	n := countTokens(sequences)
	costs := make([][]float64, len(f.modules))
	for i := range costs {
		costs[i] = make([]float64, len(f.widths))
	}
	grad := make([]float32, len(hidden))
	for sample := range f.samples {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// The draws depend on the unit, not on what ran before it.
		rng := rand.New(rand.NewPCG(uint64(f.seed), uint64(unit)<<16|uint64(sample)))
		f.runner.SampledGradient(grad, hidden, n, rng)
		f.progress.Advance(2 * int64(n) * f.model.HeadWork())
		f.runner.Backward(batch, f.tape, grad, func(p infer.Projected) {
			module := f.index[layerKind{p.Layer, p.Kind}]
			f.accumulate(costs[module], f.palettes[module], p)
			f.progress.Advance(int64(n) * f.moduleWork(&f.modules[module]))
		})
	}
	var out []Contribution
	scale := 0.5 / float64(f.samples) / float64(f.text.Tokens())
	for i, c := range costs {
		for o, v := range c {
			out = append(out, Contribution{i, o, v * scale})
		}
	}
	return out, nil
}

// accumulate adds Σ (g·(Ŵ·x - W·x))² over the tokens to the costs of one module, by option.
//
// Both products are in float32, whatever the arithmetic of the model: W·x as the forward
// pass rounded it would add its rounding to the difference.
func (f *fisherEstimator) accumulate(costs []float64, palettes []*compute.Matrix, p infer.Projected) {
	out := p.Linear.Weight.Rows()
	y := p.Y
	if f.models.Arithmetic() != f.pool.Arithmetic() {
		f.original = slices.Grow(f.original[:0], p.N*out)[:p.N*out]
		y = f.original
		p.Linear.Apply(f.pool, y, p.X, p.N)
	}
	f.product = slices.Grow(f.product[:0], p.N*out)[:p.N*out]
	f.terms = slices.Grow(f.terms[:0], p.N)[:p.N]
	product, terms := f.product, f.terms
	for o, weight := range palettes {
		l := infer.Linear{Weight: weight, Bias: p.Linear.Bias}
		l.Apply(f.pool, product, p.X, p.N)
		f.pool.Run((p.N+15)/16, func(_, chunk int) {
			for i := chunk * 16; i < min(chunk*16+16, p.N); i++ {
				g := p.G[i*out : (i+1)*out]
				d := kernel.Dot(g, product[i*out:(i+1)*out]) - kernel.Dot(g, y[i*out:(i+1)*out])
				terms[i] = d * d
			}
		})
		for _, t := range terms {
			costs[o] += t
		}
	}
}
