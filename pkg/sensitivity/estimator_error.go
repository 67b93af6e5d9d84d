package sensitivity

import (
	"context"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
)

// weightEstimator needs no text; a module is one unit of work.
type weightEstimator struct{ w *scorer }

func (e *weightEstimator) units() int { return len(e.w.modules) }

func (e *weightEstimator) run(ctx context.Context, unit int) (out []contribution, err error) {
	for o, bits := range e.w.bits {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		_, report, err := e.w.palettize(&e.w.modules[unit], bits)
		if err != nil {
			return nil, err
		}
		out = append(out, contribution{unit, o, report.SquaredError})
	}
	return out, nil
}

// hessianEstimator looks at a module's output; a module is one unit of work.
type hessianEstimator struct {
	w    *scorer
	walk *infer.Walk
}

func (e *hessianEstimator) units() int { return len(e.w.modules) }

func (e *hessianEstimator) run(ctx context.Context, unit int) ([]contribution, error) {
	w, m := e.w, &e.w.modules[unit]
	if e.walk == nil || m.spec.Layer < e.walk.Layer() {
		e.walk = w.model.NewWalk(w.models, w.text.Sequences)
	}
	for e.walk.Layer() < m.spec.Layer {
		e.walk.Advance()
	}
	weight := w.model.Blocks[m.spec.Layer].Linear(m.spec.Kind).Weight
	palettes, sums := make([]*compute.Matrix, len(w.bits)), make([]float64, len(w.bits))
	for o, bits := range w.bits {
		p, _, err := w.palettize(m, bits)
		if err != nil {
			return nil, err
		}
		palettes[o] = pack(p)
	}
	for b := range e.walk.Batches() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := e.walk.Tokens(b)
		x := e.walk.Input(m.spec.Kind, b)
		y, q := make([]float32, n*weight.Rows()), make([]float32, n*weight.Rows())
		w.pool.MulT(y, x, n, weight)
		for o, p := range palettes {
			w.pool.MulT(q, x, n, p)
			kernel.AddScaled(q, y, -1)
			sums[o] += kernel.Dot(q, q)
		}
	}
	var out []contribution
	for o, sum := range sums {
		out = append(out, contribution{unit, o, sum / float64(w.text.Tokens())})
	}
	return out, nil
}
