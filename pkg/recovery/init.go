package recovery

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"afmq/internal/kernel"
	"afmq/pkg/infer"
)

// initDamping is the share of the mean that is added to the diagonal of the activations'
// second moments: directions that the text hardly shows count a little.
const initDamping = 0.01

// initializer finds the first value of the adapters.
type initializer struct {
	pool          *kernel.Pool
	base, teacher *infer.Model // teacher is nil for InitZero
	opts          *Options
}

// run fills the adapters of all ranks. text is what InitSVD looks at.
func (z *initializer) run(ctx context.Context, students []*student, text [][]int32) error {
	if z.opts.Init == InitZero {
		for _, s := range students {
			s.zeroInit(z.opts.Seed)
		}
		return nil
	}
	c := z.base.Config
	p := z.opts.Progress
	p.Stage("initializing", int64(len(students[0].parts)), "modules")
	defer p.Done()
	var walk *infer.Walk
	if z.opts.Init == InitSVD {
		walk = z.base.NewWalk(z.pool, text)
	}
	at := 0
	for layer := range c.Layers {
		roots := map[string]*root{} // by the input that modules share
		for ; at < len(students[0].parts) && students[0].parts[at].spec.Layer == layer; at++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			spec := students[0].parts[at].spec
			var r *root
			if walk != nil {
				key := inputOf(spec.Kind)
				if roots[key] == nil {
					var err error
					if roots[key], err = z.rootOf(walk, spec); err != nil {
						return err
					}
				}
				r = roots[key]
			}
			z.module(at, spec, r, students)
			p.Advance(1)
		}
		if walk != nil && at < len(students[0].parts) {
			walk.Advance()
		}
	}
	return nil
}

// inputOf names the input of a kind of projection by the first that reads it.
func inputOf(kind string) string {
	switch kind {
	case "k_proj", "v_proj":
		return "q_proj"
	case "up_proj":
		return "gate_proj"
	}
	return kind
}

// root is a lower triangular L with L·Lᵀ the second moments of a module's input.
type root struct {
	l []float32 // [in, in]; zero above the diagonal
	n int       // in
}

func (z *initializer) rootOf(walk *infer.Walk, spec infer.TensorSpec) (*root, error) {
	in, tokens := spec.Shape[1], 0
	h := make([]float32, in*in)
	for b := range walk.Batches() {
		z.pool.AddGram(h, walk.Input(spec.Kind, b), walk.Tokens(b), in)
		tokens += walk.Tokens(b)
	}
	kernel.Symmetrize(h, in)
	kernel.Scale(h, 1/float32(tokens))
	mean := 0.0
	for i := range in {
		mean += float64(h[i*in+i]) / float64(in)
	}
	if !(mean > 0) || math.IsInf(mean, 0) {
		return nil, fmt.Errorf("%s: the input's second moment is %v", moduleName(spec), mean)
	}
	work := make([]float32, len(h))
	for damping := initDamping; damping < 1e3; damping *= 10 {
		copy(work, h)
		for i := range in {
			work[i*in+i] += float32(damping * mean)
		}
		if z.pool.Cholesky(work, in) {
			for i := range in {
				clear(work[i*in+i+1 : (i+1)*in])
			}
			return &root{work, in}, nil
		}
	}
	return nil, fmt.Errorf("%s: the input's second moments have no root", moduleName(spec))
}

// module sets the adapters of one module to the best approximation of its error in the
// norm that r gives: with (W−Ŵ)·L = U·S·Vᵀ they are U·√S and √S·Vᵀ·L⁻¹.
func (z *initializer) module(at int, spec infer.TensorSpec, r *root, students []*student) {
	out, in := spec.Shape[0], spec.Shape[1]
	diff, row := make([]float32, out*in), make([]float32, in)
	w := z.teacher.Blocks[spec.Layer].Linear(spec.Kind).Weight
	q := z.base.Blocks[spec.Layer].Linear(spec.Kind).Weight
	for i := range out {
		d := diff[i*in : (i+1)*in]
		w.Row(d, i)
		q.Row(row, i)
		kernel.AddScaled(d, row, -1)
	}
	m := diff
	if r != nil {
		m = make([]float32, out*in)
		z.pool.Mul(m, diff, out, z.pool.PackF32(in, in, r.l))
	}
	for _, st := range students {
		p := &st.parts[at]
		// A draw of its own for each, so that an adapter does not depend on which others
		// are trained beside it.
		rng := rand.New(rand.NewPCG(uint64(z.opts.Seed), 1<<32+uint64(at)))
		u, s, v := truncatedSVD(z.pool, m, out, in, p.rank, rng)
		if r != nil {
			z.pool.Run(p.rank, func(_, j int) { r.solve(v[j*in : (j+1)*in]) })
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

// solve replaces x by x·L⁻¹.
func (r *root) solve(x []float32) {
	for j := r.n - 1; j >= 0; j-- {
		x[j] /= r.l[j*r.n+j]
		kernel.AddScaled(x[:j], r.l[j*r.n:j*r.n+j], -x[j])
	}
}
