package sensitivity

import (
	"context"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
)

// hessianEstimator computes [Hessian]. A unit of work is a module.
type hessianEstimator struct {
	*scorer
	walk *infer.Walk
}

func (e *hessianEstimator) units() int { return len(e.modules) }

func (e *hessianEstimator) run(ctx context.Context, unit int) ([]Contribution, error) {
	m := &e.modules[unit]
	if e.walk == nil || m.spec.Layer < e.walk.Layer() {
		e.walk = e.model.NewWalk(e.models, e.text.Sequences)
	}
	for e.walk.Layer() < m.spec.Layer {
		e.walk.Advance()
	}
	weight := e.model.Blocks[m.spec.Layer].Linear(m.spec.Kind).Weight
	palettes, sums := make([]*compute.Matrix, len(e.bits)), make([]float64, len(e.bits))
	for o, bits := range e.bits {
		p, _, err := e.palettize(m, bits)
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
		// Both products in float32: the rounding of another arithmetic would count as error.
		e.pool.MulT(y, x, n, weight)
		for o, p := range palettes {
			e.pool.MulT(q, x, n, p)
			kernel.AddScaled(q, y, -1)
			sums[o] += kernel.Dot(q, q)
		}
	}
	var out []Contribution
	for o, sum := range sums {
		out = append(out, Contribution{unit, o, sum / float64(e.text.Tokens())})
	}
	return out, nil
}
