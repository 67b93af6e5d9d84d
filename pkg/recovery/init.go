package recovery

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"afmq/internal/kernel"
	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/model"
)

// initializer finds the roots of all inputs and the first value of the adapters.
type initializer struct {
	pool          *compute.Pool
	base, teacher *infer.Model // teacher is nil where no init needs it
	opts          *Options
	from          *adapter.Adapter // to start from, instead of an init; nil for none
	students      []*student
	outputs       map[place]*moments // of the gradients at the modules' outputs; nil where no init needs them
}

// run looks at the text, sequence by sequence and layer by layer, and gives every module
// the root of its input. It fills the adapters too, unless they come from a saved state.
func (z *initializer) run(ctx context.Context, text [][]int32, fill bool) error {
	p := z.opts.Progress
	parts := z.students[0].parts
	p.Stage("initializing", int64(len(parts)), "modules")
	defer p.Done()
	walk := z.base.NewWalk(z.pool, text)
	for at, layer := 0, 0; at < len(parts); layer++ {
		roots := map[string]*root{} // by the input that modules share
		for ; at < len(parts) && parts[at].spec.Layer == layer; at++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			spec, input := parts[at].spec, model.InputGroup(parts[at].spec.Kind)[0]
			if roots[input] == nil {
				var err error
				if roots[input], err = z.rootOf(walk, spec); err != nil {
					return fmt.Errorf("%s: %w", parts[at].name, err)
				}
			}
			for _, s := range z.students {
				s.parts[at].root = roots[input]
			}
			if fill {
				if err := z.fill(at, roots[input]); err != nil {
					return fmt.Errorf("%s: %w", parts[at].name, err)
				}
			}
			p.Advance(1)
		}
		for _, r := range roots {
			r.forget()
		}
		if at < len(parts) {
			walk.Advance()
		}
	}
	return nil
}

func (z *initializer) rootOf(walk *infer.Walk, spec model.TensorSpec) (*root, error) {
	m := newMoments(spec.Shape[1], spec.Shape[1] <= widestRoot)
	for b := range walk.Batches() {
		m.add(z.pool, walk.Input(spec.Kind, b), walk.Tokens(b))
	}
	return m.root(z.pool, false)
}

// fill sets the adapters of one module.
func (z *initializer) fill(at int, r *root) error {
	switch {
	case z.from != nil:
		z.students[0].copyFrom(at, z.from)
	case z.opts.Init == InitSVD:
		// The moments of one module at a time become a root, which takes as much again.
		key := z.students[0].parts[at].place()
		g, err := z.outputs[key].root(z.pool, true)
		if err != nil {
			return err
		}
		delete(z.outputs, key)
		z.approximate(at, r, g)
		return nil
	case z.opts.Init == InitPlain:
		z.approximate(at, nil, nil)
	default:
		for _, s := range z.students {
			s.zeroInit(at, z.opts.Seed)
		}
	}
	// These are values of A; training has those of A·L.
	for _, s := range z.students {
		p := &s.parts[at]
		onColumns(z.pool, p.a, r.n, p.rank, r.times)
	}
	return nil
}

// approximate sets the adapters of one module to the best approximation of its error. With
// r, the root L of its input's second moments, and the root G of those of the loss's
// gradients g at its output, the best is what leaves least of E[(gᵀ·(W−Ŵ−B·A)·x)²] as far
// as g and x are independent (Martens and Grosse 2015, arXiv:1503.05671): the truncated
// singular value decomposition U·S·Vᵀ of Gᵀ·(W−Ŵ)·L gives B = G⁻ᵀ·U·√S and A·L = √S·Vᵀ,
// by scale. Without the roots, they are the identity.
func (z *initializer) approximate(at int, r, g *root) {
	spec := z.students[0].parts[at].spec
	out, in := spec.Shape[0], spec.Shape[1]
	m, row := make([]float32, out*in), make([]float32, in)
	w := z.teacher.Blocks[spec.Layer].Linear(spec.Kind).Weight
	q := z.base.Blocks[spec.Layer].Linear(spec.Kind).Weight
	for i := range out {
		d := m[i*in : (i+1)*in]
		w.Row(d, i)
		q.Row(row, i)
		kernel.AddScaled(d, row, -1)
	}
	if r != nil {
		weighted := make([]float32, out*in)
		r.times(z.pool, weighted, m, out)
		onColumns(z.pool, weighted, out, in, g.times)
		m = weighted
	}
	for _, st := range z.students {
		p := &st.parts[at]
		// A draw of its own for each, so that an adapter does not depend on which others
		// are trained beside it.
		rng := rand.New(rand.NewPCG(uint64(z.opts.Seed), 1<<32+uint64(at)))
		u, s, v := truncatedSVD(z.pool, m, out, in, p.rank, rng)
		if g != nil {
			onColumns(z.pool, u, out, p.rank, g.timesInverse)
		}
		for j := range p.rank {
			f := float32(math.Sqrt(s[j] / float64(p.scale)))
			for i := range in {
				p.a[i*p.rank+j] = f * v[j*in+i]
			}
			for i := range out {
				p.b[i*p.rank+j] = f * u[i*p.rank+j]
			}
		}
	}
}
