package recovery

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
)

// initializer computes the Cholesky factors of all modules' inputs and the initial value of
// the adapters.
type initializer struct {
	pool          *compute.Pool
	base, teacher *infer.Model // teacher is nil where the init does not need it
	opts          *Options
	from          *adapter.Adapter // to copy instead of an init; nil for none
	students      []*student
	walkWork      int64              // of the text in one layer
	outputs       map[place]*moments // of the gradients at the modules' outputs; nil where the init does not need them
	name          string             // of the stage; "" for StageInit
	// spectrum receives instead of the students the error Gᵀ·(W−Ŵ)·L of every module, where the mean of
	// the diagonal of G·Gᵀ is 1, and the mean square of the gradient.
	spectrum func(at int, weighted []float32, gradient float64)
}

// run runs the text through the model layer by layer and gives every module the Cholesky
// factor of its input. With fill it also sets the adapters to their initial values; without,
// their values come from a saved state.
func (z *initializer) run(ctx context.Context, text [][]int32, fill bool) error {
	p := z.opts.Progress
	parts := z.students[0].parts
	tokens := int64(0)
	for _, s := range text {
		tokens += int64(len(s))
	}
	z.walkWork = tokens * z.base.LayerWork()
	p.Stage(progress.Stage{Name: cmp.Or(z.name, StageInit), Work: z.totalWork(tokens, fill)})
	defer p.Done()
	walk, err := z.base.NewWalk(text, infer.WalkOptions{Pool: z.pool})
	if err != nil {
		return err
	}
	for at, layer := 0, 0; at < len(parts); layer++ {
		factors := map[string]*choleskyFactor{} // by input, which several modules share
		for ; at < len(parts) && parts[at].spec.Layer == layer; at++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			spec, input := parts[at].spec, model.InputGroup(parts[at].spec.Kind)[0]
			if factors[input] == nil {
				var err error
				if factors[input], err = z.inputFactor(walk, spec); err != nil {
					return fmt.Errorf("%s: %w", parts[at].name, err)
				}
			}
			for _, s := range z.students {
				s.parts[at].factor = factors[input]
			}
			if fill {
				if err := z.fill(at, factors[input]); err != nil {
					return fmt.Errorf("%s: %w", parts[at].name, err)
				}
			}
			p.Advance(z.work(at, tokens, fill))
		}
		for _, f := range factors {
			f.dropMatrix()
		}
		if at < len(parts) {
			walk.Advance()
			p.Advance(z.walkWork)
		}
	}
	return nil
}

// totalWork returns the work of run on so many tokens.
func (z *initializer) totalWork(tokens int64, fill bool) (work int64) {
	parts := z.students[0].parts
	for at := range parts {
		work += z.work(at, tokens, fill)
	}
	return work + int64(parts[len(parts)-1].spec.Layer)*z.walkWork
}

// work returns the work of one module: the Cholesky factor of its input, where it is the first
// that has this input, and the approximation of its error.
func (z *initializer) work(at int, tokens int64, fill bool) (work int64) {
	parts := z.students[0].parts
	spec := parts[at].spec
	out, in := int64(spec.Shape[0]), int64(spec.Shape[1])
	group := model.InputGroup(spec.Kind)
	before := at > 0 && parts[at-1].spec.Layer == spec.Layer && slices.Contains(group, parts[at-1].spec.Kind)
	if !before && in <= widestWhole {
		work += tokens*in*in/2 + factorWork*in*in*in
	}
	if !fill || z.from != nil || z.opts.Init == InitZero {
		return work
	}
	if z.opts.Init == InitSVD {
		work += out*in*(out+in) + factorWork*out*out*out
	}
	for _, s := range z.students {
		work += int64(s.parts[at].rank+oversampling) * 2 * (powerSteps + 1) * out * in
	}
	return work
}

// factorWork is the work of a Cholesky factor and its inverse, relative to the cube of their rows.
const factorWork = 1

// inputFactor returns the Cholesky factor of the input of one module.
func (z *initializer) inputFactor(walk *infer.Walk, spec model.TensorSpec) (*choleskyFactor, error) {
	m := newMoments(spec.Shape[1], spec.Shape[1] <= widestWhole)
	for b := range walk.Batches() {
		m.add(z.pool, walk.Input(spec.Kind, b), walk.Tokens(b))
	}
	return m.factor(z.pool, false)
}

// fill sets the adapters of one module to their initial values. f is the Cholesky factor of
// its input.
func (z *initializer) fill(at int, f *choleskyFactor) error {
	switch {
	case z.from != nil:
		z.students[0].copyFrom(at, z.from)
	case z.opts.Init == InitSVD:
		// One module at a time: a factor takes as much memory again as the moments.
		key := z.students[0].parts[at].place()
		gradient := z.outputs[key].meanDiagonal() / float64(z.outputs[key].tokens)
		g, err := z.outputs[key].factor(z.pool, true)
		if err != nil {
			return err
		}
		delete(z.outputs, key)
		if m := z.weightedError(at, f, g); z.spectrum != nil {
			z.spectrum(at, m, gradient)
		} else {
			z.approximate(at, m, g)
		}
		return nil
	case z.opts.Init == InitPlain:
		z.approximate(at, z.weightedError(at, nil, nil), nil)
	default:
		for _, s := range z.students {
			s.zeroInit(at, z.opts.Seed)
		}
	}
	// The values so far are those of A; training works on A·L.
	for _, s := range z.students {
		p := &s.parts[at]
		onColumns(z.pool, p.a, f.n, p.rank, f.times)
	}
	return nil
}

// approximate sets the adapters of one module to the best approximation of its error W−Ŵ of
// their rank. With the Cholesky factors L of the second moments of its input x and G of those
// of the loss's gradient g at its output, the best one minimizes E[(gᵀ·(W−Ŵ−B·A)·x)²] under
// the assumption that g and x are independent (Martens and Grosse 2015, arXiv:1503.05671):
// the truncated singular value decomposition U·S·Vᵀ of m = Gᵀ·(W−Ŵ)·L, of weightedError, gives
// B = G⁻ᵀ·U·√S and A·L = √S·Vᵀ, up to the adapter's scale. Where g is nil both are the identity.
func (z *initializer) approximate(at int, m []float32, g *choleskyFactor) {
	out, in := z.students[0].parts[at].spec.Shape[0], z.students[0].parts[at].spec.Shape[1]
	for _, st := range z.students {
		p := &st.parts[at]
		// Each adapter has a generator of its own, so that it does not depend on the ranks
		// trained beside it.
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

// weightedError returns Gᵀ·(W−Ŵ)·L [out, in] of one module. Where l and g are nil both are the identity.
func (z *initializer) weightedError(at int, l, g *choleskyFactor) []float32 {
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
	if l != nil {
		weighted := make([]float32, out*in)
		l.times(z.pool, weighted, m, out)
		onColumns(z.pool, weighted, out, in, g.times)
		m = weighted
	}
	return m
}
