package palettize

import (
	"fmt"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// Compensation configures [Compensate]. The zero value is the default.
type Compensation struct {
	// Rounds is the number of refinement rounds after GPTQ, each of which fits tables and
	// scales to the indices and then improves the indices; 0 for DefaultRounds, negative
	// for none.
	Rounds int
}

// DefaultRounds is the number of rounds after which another one lowers the error by less
// than 1 %.
const DefaultRounds = 4

// CompensationReport adds the squared error of the module's output to a [Report], summed
// over the calibration tokens, with the damping of H.
type CompensationReport struct {
	Report
	OutputError float64 // tr(E·H·Eᵀ) with E = W - Ŵ
	PlainError  float64 // the same before compensation
}

// Compensate palettizes src, a matrix [rows, cols], to minimize the squared error of the
// module's output over the calibration tokens, whereas [Palettize] minimizes that of the
// weights. cols is the number of columns of f. The steps are:
//
//  1. Palettize, with the squared diagonal of the Cholesky factor as the importance.
//  2. GPTQ (Frantar et al. 2022) in the form of LDLQ (Chee et al., "QuIP", 2023): the
//     columns are quantized one after another, and the error of each is fed back to those
//     that follow through the Cholesky factor, which needs no inverse.
//  3. Rounds of two steps. Table entries and row scales are fitted to the indices in the
//     norm of the Hessian by conjugate gradients. Then every index in turn is set to the
//     best value given all others (coordinate descent).
//
// Each group keeps its best state; a step never raises its error. opt.Importance is
// ignored. pool may be nil. The result does not depend on the number of threads. Errors
// are those of Palettize; cols that differ from f's are a plain error.
func Compensate(pool *compute.Pool, src Source, rows, cols int, opt Options, f *HessianFactor, c Compensation) (*Matrix, CompensationReport, error) {
	if cols != f.n {
		return nil, CompensationReport{}, fmt.Errorf("%d columns with a Hessian of %d", cols, f.n)
	}
	if c.Rounds == 0 {
		c.Rounds = DefaultRounds
	}
	opt.Importance = f.importance()
	m, _, err := Palettize(pool, src, rows, cols, opt)
	if err != nil {
		return nil, CompensationReport{}, err
	}
	per := chunkRows(rows, m.GroupRows)
	chunks := (rows + per - 1) / per
	reports := make([]CompensationReport, chunks)
	solvers := make([]*compensator, pool.Threads())
	pool.Run(chunks, func(id, i int) {
		if solvers[id] == nil {
			solvers[id] = &compensator{pool: pool, m: m, f: f, src: src, rounds: max(c.Rounds, 0)}
		}
		reports[i] = solvers[id].chunk(i*per, min(per, rows-i*per))
	})
	var sum CompensationReport
	for _, r := range reports {
		sum.SquaredError += r.SquaredError
		sum.SquaredNorm += r.SquaredNorm
		sum.OutputError += r.OutputError
		sum.PlainError += r.PlainError
	}
	return m, sum, nil
}

// chunkRows returns the rows of a chunk, a multiple of the group: enough to amortize the
// packing of the matrix products, few enough for a small matrix to occupy several threads.
// 112 rows are 8 strips of the widest kernel. The number must not depend on the threads,
// because the rounds of a chunk end together.
func chunkRows(rows, group int) int {
	want := 64
	if rows >= 1024 {
		want = 112
	}
	return max(1, want/group) * group
}

// compensator processes chunks of rows; it owns its buffers. Columns are in the order of
// the Hessian factor. Slices are [rows, n] unless stated otherwise.
type compensator struct {
	pool   *compute.Pool
	m      *Matrix
	f      *HessianFactor
	src    Source
	rounds int
	mul    kernel.Scratch

	first, rows int
	weights     []float32
	index       []uint8
	errs        []float32 // W - Ŵ
	grad        []float32 // errs·H: half the gradient of the error
	sums        []float32 // feedback of the columns quantized so far
	part        []float32 // [rows, solveBlock]: errors or changes of a block
	levels      levels
	refit       refit
	kept        struct {
		index       []uint8
		lut, scales []uint16
		errs, grad  []float32
	}
}

// chunk quantizes rows first to first+rows-1, which are whole groups, and writes them to
// the matrix.
func (s *compensator) chunk(first, rows int) (r CompensationReport) {
	s.first, s.rows = first, rows
	n := s.f.n
	size := rows * n
	for _, p := range []*[]float32{&s.weights, &s.errs, &s.grad, &s.sums} {
		*p = grow(*p, size)
	}
	s.index, s.part = grow(s.index, size), grow(s.part, rows*solveBlock)
	s.load()
	s.measure()
	r.PlainError = s.gradient()
	s.keep()
	s.pool.Check()
	s.feedback()
	s.gradient()
	best := s.better(r.PlainError)
	for range s.rounds {
		s.pool.Check()
		s.fit()
		s.pool.Check()
		s.gradient()
		s.descend()
		before := best
		if best = s.better(best); !(best < before*(1-1e-4)) {
			break
		}
	}
	r.OutputError = best
	s.store()
	r.Report = s.report()
	return r
}
