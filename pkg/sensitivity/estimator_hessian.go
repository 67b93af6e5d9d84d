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

func (e *hessianEstimator) unitName() string { return "modules" }

func (e *hessianEstimator) prepare(context.Context) error { return nil }

// work counts the palettes, and for each token the products with the module and its palettes and
// those that lead to its input.
func (e *hessianEstimator) work(unit int) int64 {
	m := &e.modules[unit]
	return e.quantizeWork(m) + int64(e.text.Tokens())*e.tokenWork(m)
}

func (e *hessianEstimator) tokenWork(m *module) int64 {
	if m.end {
		return e.endWork(m, len(e.ends))
	}
	n := int64(1+len(e.widths)) * m.weights()
	switch m.spec.Kind {
	case "q_proj", "qkv_proj": // the rest of the layer before
		return n + m.weights()
	case "o_proj", "gate_proj", "gate_up_proj":
		return n + 3*m.weights()
	case "down_proj":
		return n + 2*m.weights()
	}
	return n
}

// enter moves the walk to a layer and loads its weights.
func (e *hessianEstimator) enter(ctx context.Context, layer int) (err error) {
	if e.walk != nil && e.walk.Layer() == layer {
		return nil
	}
	if e.walk == nil || layer < e.walk.Layer() {
		if e.walk, err = e.newWalk(ctx, e.models); err != nil {
			return err
		}
	}
	if err := e.advance(ctx, e.walk, layer); err != nil {
		return err
	}
	return e.stream.LoadLayer(ctx, layer)
}

func (e *hessianEstimator) run(ctx context.Context, unit int) ([]Contribution, error) {
	m := &e.modules[unit]
	if m.end {
		sums, err := e.runEnd(ctx, m)
		return e.contributions(unit, sums), err
	}
	if err := e.enter(ctx, m.spec.Layer); err != nil {
		return nil, err
	}
	weight := e.model.Blocks[m.spec.Layer].Linear(m.spec.Kind).Weight
	palettes, sums := make([]*compute.Matrix, len(e.widths)), make([]float64, len(e.widths))
	for o := range e.widths {
		p, _, err := e.quantize(m, o)
		if err != nil {
			return nil, err
		}
		palettes[o] = p
		e.progress.Advance(e.widthWork(m, o))
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
		e.progress.Advance(int64(n) * e.tokenWork(m))
	}
	return e.contributions(unit, sums), nil
}

// contributions are the sums of a unit, by option, divided by the number of tokens.
func (e *hessianEstimator) contributions(unit int, sums []float64) (out []Contribution) {
	for o, sum := range sums {
		out = append(out, Contribution{unit, o, sum / float64(e.text.Tokens())})
	}
	return out
}
