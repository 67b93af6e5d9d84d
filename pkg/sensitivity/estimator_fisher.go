package sensitivity

import (
	"context"
	"math/rand/v2"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
)

// fisherEstimator runs the text forward and backward, a batch of sequences at a time; a
// batch is one unit of work and adds to the scores of all modules.
type fisherEstimator struct {
	w        *scorer
	parts    [][][]int32
	palettes [][]*compute.Matrix // made by the first unit
	runner   *infer.Runner
	tape     *infer.Tape
	caches   []*infer.Cache
	product  []float32
	terms    []float64
}

const (
	fisherTokens = 2048    // run at once
	tapeMemory   = 1 << 30 // bytes of intermediate results kept; beyond it they are computed again
)

func newFisherEstimator(w *scorer) *fisherEstimator {
	return &fisherEstimator{w: w, parts: batches(w.text.Sequences, fisherTokens)}
}

func (f *fisherEstimator) units() int { return len(f.parts) }

// start makes what all units share.
func (f *fisherEstimator) start(ctx context.Context) (err error) {
	if f.palettes != nil {
		return nil
	}
	if f.palettes, err = f.w.packAll(ctx); err != nil {
		return err
	}
	m := f.w.model
	f.runner = m.NewRunner(f.w.models)
	most := 0
	for _, p := range f.parts {
		most = max(most, countTokens(p))
	}
	f.tape = infer.NewTape(infer.TapeOptions{Recompute: m.TapeBytes()*int64(most) > tapeMemory, Outputs: true})
	return nil
}

func (f *fisherEstimator) run(ctx context.Context, unit int) ([]contribution, error) {
	if err := f.start(ctx); err != nil {
		return nil, err
	}
	w, sequences := f.w, f.parts[unit]
	batch := make([]infer.Segment, len(sequences))
	for i, s := range sequences {
		if i == len(f.caches) {
			f.caches = append(f.caches, w.model.NewCache(w.text.Record.SeqLen))
		}
		f.caches[i].Reset()
		batch[i] = infer.Segment{Cache: f.caches[i], Tokens: s}
	}
	hidden := append([]float32(nil), f.runner.ForwardTape(batch, f.tape)...)
	n := countTokens(sequences)
	costs := make([][]float64, len(w.modules))
	for i := range costs {
		costs[i] = make([]float64, len(w.bits))
	}
	grad := make([]float32, len(hidden))
	for sample := range w.samples {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// The draws of a unit depend on its number, not on what ran before it.
		rng := rand.New(rand.NewPCG(uint64(w.seed), uint64(unit)<<16|uint64(sample)))
		f.runner.SampledGradient(grad, hidden, n, rng)
		f.runner.Backward(batch, f.tape, grad, func(p infer.Projected) {
			f.visit(costs[w.byKey[layerKind{p.Layer, p.Kind}]], p)
		})
	}
	var out []contribution
	scale := 0.5 / float64(w.samples) / float64(w.text.Tokens())
	for i, c := range costs {
		for o, v := range c {
			out = append(out, contribution{i, o, v * scale})
		}
	}
	return out, nil
}

// visit adds Σ (g·(Ŵ·x - W·x))² over the tokens to the costs of one module.
func (f *fisherEstimator) visit(costs []float64, p infer.Projected) {
	out := p.Linear.Weight.Rows()
	if cap(f.product) < p.N*out {
		f.product = make([]float32, p.N*out)
	}
	if cap(f.terms) < p.N {
		f.terms = make([]float64, p.N)
	}
	product, terms := f.product[:p.N*out], f.terms[:p.N]
	palettes := f.palettes[f.w.byKey[layerKind{p.Layer, p.Kind}]]
	for o, weight := range palettes {
		l := infer.Linear{Weight: weight, Bias: p.Linear.Bias}
		l.Apply(f.w.pool, product, p.X, p.N)
		f.w.pool.Run((p.N+15)/16, func(_, chunk int) {
			for i := chunk * 16; i < min(chunk*16+16, p.N); i++ {
				g := p.G[i*out : (i+1)*out]
				d := kernel.Dot(g, product[i*out:(i+1)*out]) - kernel.Dot(g, p.Y[i*out:(i+1)*out])
				terms[i] = d * d
			}
		})
		for _, t := range terms {
			costs[o] += t
		}
	}
}
