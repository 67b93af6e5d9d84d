package recovery

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"afmq/internal/kernel"
	"afmq/pkg/infer"
)

const (
	// rootDamping is the share of the mean that is added to the diagonal of an input's
	// second moments: directions that the text hardly shows count a little.
	rootDamping = 0.01
	// widestRoot is the widest input whose second moments are kept whole; of a wider one
	// only the diagonal is.
	widestRoot = 4096
)

// root is a lower triangular L [n, n] with L·Lᵀ the second moments of a module's input x:
// L⁻¹·x is white.
type root struct {
	n       int
	l       []float32      // zero above the diagonal
	packed  *kernel.Matrix // L
	inverse *kernel.Matrix // L⁻¹
}

// newRoot returns the root of the second moments h [n, n], which it overwrites.
func newRoot(pool *kernel.Pool, h []float32, n int) (*root, error) {
	mean := 0.0
	for i := range n {
		mean += float64(h[i*n+i]) / float64(n)
	}
	if !(mean > 0) || math.IsInf(mean, 0) {
		return nil, fmt.Errorf("the second moment of its input is %v", mean)
	}
	if n > widestRoot {
		for i := range n {
			d := h[i*n+i]
			clear(h[i*n : (i+1)*n])
			h[i*n+i] = d
		}
	}
	l := make([]float32, len(h))
	for damping := rootDamping; ; damping *= 10 {
		copy(l, h)
		for i := range n {
			l[i*n+i] += float32(damping * mean)
		}
		if pool.Cholesky(l, n) {
			break
		}
		if damping > 1e3 {
			return nil, fmt.Errorf("the second moments of its input have no root")
		}
	}
	for i := range n {
		clear(l[i*n+i+1 : (i+1)*n])
	}
	r := &root{n: n, l: l, packed: pool.PackF32(n, n, l)}
	inverse := make([]float32, n*n)
	pool.Run(n, func(_, i int) {
		row := inverse[i*n : (i+1)*n]
		row[i] = 1
		for j := i; j >= 0; j-- { // row·L = e_i, from the last column on
			row[j] /= l[j*n+j]
			kernel.AddScaled(row[:j], l[j*n:j*n+j], -row[j])
		}
	})
	r.inverse = pool.PackF32(n, n, inverse)
	return r, nil
}

// initializer finds the roots of all inputs and the first value of the adapters.
type initializer struct {
	pool          *kernel.Pool
	base, teacher *infer.Model // teacher is nil where no init needs it
	opts          *Options
	from          *infer.Adapter // to start from, instead of an init; nil for none
	students      []*student
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
			spec, input := parts[at].spec, inputOf(parts[at].spec.Kind)
			if roots[input] == nil {
				var err error
				if roots[input], err = z.rootOf(walk, spec); err != nil {
					return fmt.Errorf("%s: %w", parts[at].name, err)
				}
			}
			for _, s := range z.students {
				s.parts[at].inverse = roots[input].inverse
			}
			if fill {
				z.fill(at, roots[input])
			}
			p.Advance(1)
		}
		if at < len(parts) {
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

func (z *initializer) rootOf(walk *infer.Walk, spec infer.TensorSpec) (*root, error) {
	in, tokens := spec.Shape[1], 0
	h := make([]float32, in*in)
	for b := range walk.Batches() {
		z.pool.AddGram(h, walk.Input(spec.Kind, b), walk.Tokens(b), in)
		tokens += walk.Tokens(b)
	}
	kernel.Symmetrize(h, in)
	kernel.Scale(h, 1/float32(tokens))
	return newRoot(z.pool, h, in)
}

// fill sets the adapters of one module.
func (z *initializer) fill(at int, r *root) {
	if z.from == nil && z.opts.Init == InitSVD {
		z.approximate(at, r)
		return
	}
	switch {
	case z.from != nil:
		z.students[0].copyFrom(at, z.from)
	case z.opts.Init == InitPlain:
		z.approximate(at, nil)
	default:
		for _, s := range z.students {
			s.zeroInit(at, z.opts.Seed)
		}
	}
	// These are values of A; training has those of A·L.
	for _, s := range z.students {
		p := &s.parts[at]
		a := turned(p.a, r.n, p.rank)
		white := make([]float32, len(a))
		z.pool.Mul(white, a, p.rank, r.packed)
		copy(p.a, turned(white, p.rank, r.n))
	}
}

// approximate sets the adapters of one module to the best approximation of its error, in
// the norm of its input where r is given: with (W−Ŵ)·L = U·S·Vᵀ they are B = U·√S and
// A·L = √S·Vᵀ, by scale. Without r, L is the identity.
func (z *initializer) approximate(at int, r *root) {
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
		diff := m
		m = make([]float32, out*in)
		z.pool.Mul(m, diff, out, r.packed)
	}
	for _, st := range z.students {
		p := &st.parts[at]
		// A draw of its own for each, so that an adapter does not depend on which others
		// are trained beside it.
		rng := rand.New(rand.NewPCG(uint64(z.opts.Seed), 1<<32+uint64(at)))
		u, s, v := truncatedSVD(z.pool, m, out, in, p.rank, rng)
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
