package recovery

import (
	"fmt"
	"math"
	"math/rand/v2"

	"afmq/internal/kernel"
	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// student is one adapter in training. Its weights, gradients and moments are one slice each,
// of which the matrices of every [part] are views.
type student struct {
	trained
	config *adapter.Config
	parts  []part // in canonical order

	packed  []*infer.LowRank // of parts
	visitor infer.Visitor    // accumulates into grads
}

// part is the adapter of one module.
type part struct {
	spec  model.TensorSpec
	name  string // of the module
	rank  int
	scale float32

	// A is stored transposed, so that the gradients of both matrices are products with many
	// rows, which threads can divide. Where factor is set, the Cholesky factor L of the
	// second moments of the module's input, a holds A·L instead of A. The input of A·L is
	// white: AdamW, whose step is the same for every coordinate, then treats all its
	// directions alike (the input half of Kronecker-factored curvature, Martens and Grosse
	// 2015, arXiv:1503.05671).
	a, gradA []float32 // [in, rank]
	b, gradB []float32 // [out, rank]
	factor   *choleskyFactor
}

// adapterEpsilon is AdamW's usual epsilon.
const adapterEpsilon = 1e-8

func newStudent(pool *compute.Pool, cfg *model.Config, config *adapter.Config) *student {
	s := &student{config: config, trained: trained{name: fmt.Sprintf("rank-%d", config.Rank), rank: config.Rank, epsilon: adapterEpsilon}}
	adapted := map[string]bool{}
	for _, m := range config.Modules {
		adapted[m] = true
	}
	total := 0
	for _, spec := range cfg.Tensors() {
		name := spec.Module()
		if spec.Role == model.Projection && adapted[name] {
			p := part{spec: spec, name: name, rank: config.RankOf(name), scale: config.ScaleOf(name)}
			s.parts = append(s.parts, p)
			total += p.rank * (spec.Shape[0] + spec.Shape[1])
		}
	}
	s.allocate(total)
	at := 0
	take := func(n int) (w, g []float32) {
		w, g = s.weights[at:at+n:at+n], s.grads[at:at+n:at+n]
		at += n
		return w, g
	}
	for i := range s.parts {
		p := &s.parts[i]
		p.a, p.gradA = take(p.rank * p.spec.Shape[1])
		p.b, p.gradB = take(p.rank * p.spec.Shape[0])
	}
	s.visitor = s.accumulate(pool)
	return s
}

// zeroInit is the standard LoRA init as PEFT implements it: A uniform in ±1/√in, B zero.
func (s *student) zeroInit(at int, seed int64) {
	p := &s.parts[at]
	rng := rand.New(rand.NewPCG(uint64(seed), 1<<33+uint64(at)))
	limit := 1 / math.Sqrt(float64(p.spec.Shape[1]))
	for k := range p.a {
		p.a[k] = float32((2*rng.Float64() - 1) * limit)
	}
	clear(p.b)
}

// copyFrom sets one module to the values of an adapter.
func (s *student) copyFrom(at int, a *adapter.Adapter) {
	p := &s.parts[at]
	w := a.Modules[p.name]
	copy(p.a, transposed(w.A, p.rank, p.spec.Shape[1]))
	copy(p.b, w.B)
}

// values returns the adapter's matrices as files hold them. weights has the layout of the
// student's own.
func (s *student) values(pool *compute.Pool, weights []float32) map[string]adapter.Weights {
	out := make(map[string]adapter.Weights, len(s.parts))
	at := 0
	for i := range s.parts {
		p := &s.parts[i]
		rows, in := p.spec.Shape[0], p.spec.Shape[1]
		a := transposed(weights[at:at+p.rank*in], in, p.rank)
		if p.factor != nil {
			white := a
			a = make([]float32, len(white))
			p.factor.timesInverse(pool, a, white, p.rank)
		}
		at += p.rank * in
		out[p.name] = adapter.Weights{A: a, B: weights[at : at+p.rank*rows]}
		at += p.rank * rows
	}
	return out
}

// transposed returns the transpose of v [rows, cols].
func transposed(v []float32, rows, cols int) []float32 {
	t := make([]float32, len(v))
	for r := range rows {
		for c := range cols {
			t[c*rows+r] = v[r*cols+c]
		}
	}
	return t
}

// onColumns replaces the columns of v [rows, cols] by what apply, which works on rows, makes
// of them.
func onColumns(pool *compute.Pool, v []float32, rows, cols int, apply func(pool *compute.Pool, y, x []float32, m int)) {
	x := transposed(v, rows, cols)
	y := make([]float32, len(x))
	apply(pool, y, x, cols)
	copy(v, transposed(y, cols, rows))
}

func (s *student) visitors() visitors {
	return visitors{Visitors: infer.Visitors{Projections: s.visitor}}
}

// precondition converts the gradients with respect to A into those with respect to A·L.
func (s *student) precondition(pool *compute.Pool) {
	for i := range s.parts {
		if p := &s.parts[i]; p.factor != nil {
			onColumns(pool, p.gradA, p.spec.Shape[1], p.rank, p.factor.timesInverseT)
		}
	}
}

// pack converts weights, laid out as the student's own, to the packed matrices of products:
// in float32, or rounded to F16 or F8_E4M3 as they will be stored.
func (s *student) pack(pool *compute.Pool, weights []float32, stored safetensors.DType) {
	values := s.values(pool, weights)
	if stored == safetensors.F8E4M3 {
		values = adapter.Float8(values, s.config.RankOf)
	}
	s.packed = make([]*infer.LowRank, len(s.parts))
	for i := range s.parts {
		p := &s.parts[i]
		w := values[p.name]
		pack := func(rows, cols int, v []float32) *compute.Matrix {
			if stored != safetensors.F32 { // F16 has all values of F8_E4M3
				half := make([]uint16, len(v))
				kernel.F32ToF16(half, v)
				return compute.PackF16(rows, cols, half)
			}
			return pool.PackF32(rows, cols, v)
		}
		s.packed[i] = &infer.LowRank{A: pack(p.rank, p.spec.Shape[1], w.A), B: pack(p.spec.Shape[0], p.rank, w.B), Scale: p.scale}
	}
}

// attach makes the model run with the adapter as last packed.
func (s *student) attach(m *infer.Model) {
	for i := range s.parts {
		m.Blocks[s.parts[i].spec.Layer].Linear(s.parts[i].spec.Kind).Adapter = s.packed[i]
	}
}

// place identifies a projection.
type place struct {
	layer int
	kind  string
}

func (p *part) place() place { return place{p.spec.Layer, p.spec.Kind} }

// accumulate returns the visitor that adds the gradients of a batch to the student's.
func (s *student) accumulate(pool *compute.Pool) infer.Visitor {
	parts := make(map[place]*part, len(s.parts))
	for i := range s.parts {
		parts[s.parts[i].place()] = &s.parts[i]
	}
	return func(q infer.Projected) {
		p := parts[place{q.Layer, q.Kind}]
		if p == nil {
			return
		}
		pool.AddCross(p.gradA, q.X, q.LowG, q.N, p.spec.Shape[1], p.rank)
		pool.AddCross(p.gradB, q.G, q.LowX, q.N, p.spec.Shape[0], p.rank)
	}
}
