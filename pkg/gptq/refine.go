package gptq

import (
	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// Codes are the codes and the parameters of a chunk of rows of a matrix. Columns are in the order
// of the [Factor], see [Factor.Order]. A group is a run of rows that share parameters, such as the
// entries of a table; in a vector of parameters each group has Parameters elements.
type Codes interface {
	// Row prepares a row of the chunk; what it returns is valid until the next call.
	Row(r int) Row
	// Errors writes weights - Ŵ to dst; all are [rows, columns].
	Errors(dst, weights []float32)

	Groups() int
	GroupRows(g int) (first, end int) // its rows, within the chunk
	Parameters() int

	// Gather writes the derivatives of Σ x·Ŵ with respect to the parameters to dst; x is
	// [rows, columns].
	Gather(dst []float64, x []float32)
	// Spread writes the change of Ŵ along a direction of the parameters to dst [rows, columns].
	Spread(dst []float32, direction []float64)
	// Curvature writes Σ rows·diag·(∂Ŵ/∂p)² for each parameter p to dst; diag has an element for each
	// column, and rows one for each row, or is nil for 1.
	Curvature(dst, diag []float64, rows []float32)
	// Move adds a change to the parameters of a group and rounds them to what can be stored. It
	// may renumber codes.
	Move(g int, change []float64)

	Keep(g int)    // remembers codes and parameters of a group
	Restore(g int) // goes back to them
}

// Row is a row of Codes.
type Row interface {
	Value(j int) float32                                       // of column j with its present code
	Nearest(j int, target float32) (code uint8, value float32) // the code whose value is nearest to target
	Set(j int, code uint8)
}

// Report gives the error of a chunk of rows.
type Report struct {
	SquaredError float64 // Σ (w - ŵ)²
	SquaredNorm  float64 // Σ w²
	OutputError  float64 // tr(E·H·Eᵀ) with E = W - Ŵ and the damped H; with an [Output] G, tr(G·E·H·Eᵀ)
	PlainError   float64 // the same before
}

// Add adds the error of another chunk.
func (r *Report) Add(o Report) {
	r.SquaredError += o.SquaredError
	r.SquaredNorm += o.SquaredNorm
	r.OutputError += o.OutputError
	r.PlainError += o.PlainError
}

// ChunkRows returns how many rows of a matrix to refine at a time, a multiple of the rows of a
// group: enough to amortize the packing of the matrix products, few enough for a small matrix to
// occupy several threads. 112 rows are 8 strips of the widest kernel. The number does not depend
// on the threads, because the rounds of a chunk end together.
func ChunkRows(rows, group int) int {
	want := 64
	if rows >= 1024 {
		want = 112
	}
	return max(1, want/group) * group
}

// DefaultRounds is the number of rounds after which another one lowers the error by less than
// 1 %.
const DefaultRounds = 4

// SearchRounds is the number of rounds that search the settings of parts: on a model of 4.6 M
// parameters, two more lower the error by another 0.2 to 0.7 % and take as long as GPTQ.
const SearchRounds = 2

// Refiner quantizes chunks of rows. It owns its buffers and must not be used concurrently. Slices
// are [rows, n] unless stated otherwise.
type Refiner struct {
	pool *compute.Pool // checked for cancellation between steps; may be nil
	f    *Factor
	out  *Output // whose diagonal weighs rows that share parameters; may be nil
	mul  kernel.Scratch

	codes   Codes
	rows    int
	scale   []float32 // [rows] the diagonal of out; nil for 1
	weights []float32
	errs    []float32 // W - Ŵ
	grad    []float32 // errs·H: half the gradient of the error
	sums    []float32 // feedback of the columns quantized so far
	part    []float32 // [rows, solveBlock]: errors or changes of a block
	fitting fitting
	parts   partSearch
	kept    struct{ errs, grad []float32 }
}

// NewRefiner returns a Refiner for modules with these inputs and outputs. out may be nil.
func NewRefiner(pool *compute.Pool, f *Factor, out *Output) *Refiner {
	return &Refiner{pool: pool, f: f, out: out}
}

// Refine quantizes the weights [rows, columns] of the rows from first on, in the order of the factor,
// into codes, which hold the parameters from which it starts. rounds follow GPTQ; 0 for none.
func (s *Refiner) Refine(weights []float32, first, rows int, codes Codes, rounds int) (r Report) {
	s.begin(weights, rows, codes)
	s.scale = s.out.weights(first, rows)
	codes.Errors(s.errs, weights)
	s.gradient()
	r.PlainError = s.outputError()
	s.keep()
	s.pool.Check()
	s.feedback()
	s.gradient()
	best := s.better()
	for round := range rounds {
		s.pool.Check()
		s.fit()
		s.pool.Check()
		s.gradient()
		s.descend(round < SearchRounds)
		before := best
		if best = s.better(); !(best < before*(1-1e-4)) {
			break
		}
	}
	r.OutputError = best
	for row := range rows {
		n := s.f.n
		e, w := s.errs[row*n:(row+1)*n], s.weights[row*n:(row+1)*n]
		r.SquaredError += kernel.Dot(e, e)
		r.SquaredNorm += kernel.Dot(w, w)
	}
	return r
}

// begin sets what is refined and its buffers.
func (s *Refiner) begin(weights []float32, rows int, codes Codes) {
	s.weights, s.rows, s.codes = weights, rows, codes
	size := rows * s.f.n
	for _, p := range []*[]float32{&s.errs, &s.grad, &s.sums} {
		*p = grow(*p, size)
	}
	s.part = grow(s.part, rows*solveBlock)
	if c, ok := codes.(PartCodes); ok {
		s.parts.prepare(s.f, c.PartColumns())
	} else {
		s.parts = partSearch{}
	}
}

// gradient computes grad from errs.
func (s *Refiner) gradient() {
	n := s.f.n
	s.mul.MulTPart(s.rows, s.errs, n, s.f.hessian, 0, n, 0, n, s.grad, n, false)
}

// outputError returns tr(E·H·Eᵀ), with the weights of rows. grad must match errs.
func (s *Refiner) outputError() (sum float64) {
	for r := range s.rows {
		sum += s.rowScale(r) * s.rowError(s.errs, s.grad, r)
	}
	return sum
}

// rowError returns the error of a row.
func (s *Refiner) rowError(errs, grad []float32, r int) float64 {
	n := s.f.n
	return kernel.Dot(errs[r*n:(r+1)*n], grad[r*n:(r+1)*n])
}

// rowScale returns the weight of a row in the error of its group.
func (s *Refiner) rowScale(r int) float64 {
	if s.scale == nil {
		return 1
	}
	return float64(s.scale[r])
}

// keep remembers the state of the chunk.
func (s *Refiner) keep() {
	s.kept.errs = append(s.kept.errs[:0], s.errs...)
	s.kept.grad = append(s.kept.grad[:0], s.grad...)
	for g := range s.codes.Groups() {
		s.codes.Keep(g)
	}
}

// better compares the state with the kept one group by group and leaves the better of the two in
// both. It returns the error of the result, with the weights of rows. errs and grad must match the codes.
func (s *Refiner) better() float64 {
	n, total := s.f.n, 0.0
	for g := range s.codes.Groups() {
		r0, r1 := s.codes.GroupRows(g)
		now, before := 0.0, 0.0
		for r := r0; r < r1; r++ {
			now += s.rowScale(r) * s.rowError(s.errs, s.grad, r)
			before += s.rowScale(r) * s.rowError(s.kept.errs, s.kept.grad, r)
		}
		errs, grad := s.errs[r0*n:r1*n], s.grad[r0*n:r1*n]
		keptErrs, keptGrad := s.kept.errs[r0*n:r1*n], s.kept.grad[r0*n:r1*n]
		if now < before {
			s.codes.Keep(g)
			copy(keptErrs, errs)
			copy(keptGrad, grad)
			total += now
		} else {
			s.codes.Restore(g)
			copy(errs, keptErrs)
			copy(grad, keptGrad)
			total += before
		}
	}
	return total
}
