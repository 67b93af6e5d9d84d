package palettize

import (
	"fmt"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// Compensation says how hard to work on the error that is left.
type Compensation struct {
	// Rounds is how many times, after the first pass, the tables are fitted to the
	// indices and the indices chosen anew; 0 for DefaultRounds, negative for none.
	Rounds int
}

// DefaultRounds is where more rounds win less than a hundredth of the error.
const DefaultRounds = 4

// CompensationReport adds the error at the module's output to a [Report]. Both are
// sums over the calibration tokens, damping included.
type CompensationReport struct {
	Report
	OutputError float64 // tr(E·H·Eᵀ), E = W - Ŵ
	PlainError  float64 // the same of the tables and indices before compensation
}

// Compensate palettizes src, a matrix [rows, f's columns], so that the squared error of
// its output over the calibration tokens is small, where [Palettize] has that of the
// weights in mind. Each group starts from the optimal table for its weights with the
// importance of [HessianFactor]. Then columns are quantized one after another, and each
// column's error is made up for in those that follow (GPTQ, Frantar et al. 2022; in the
// form of LDLQ, Chee et al., "QuIP", 2023: feedback by a Cholesky factor, which needs no
// inverse). Last, in rounds, table entries and row scales are fitted to the indices in
// the norm of the Hessian by conjugate gradients, and every index is chosen anew given
// all others (coordinate descent). A round that does not lower the error is not taken.
//
// Options are those of Palettize, without Importance. The result does not depend on the
// number of threads.
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
			solvers[id] = &compensator{m: m, f: f, src: src, rounds: max(c.Rounds, 0)}
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

// chunkRows returns how many rows make a chunk, whole groups: enough for the products to
// be worth their packing, few enough for the chunks of a small matrix to keep some threads
// busy. 112 is 8 strips of the widest kernel. It may not depend on the threads, as the
// rounds of a chunk end together.
func chunkRows(rows, group int) int {
	want := 64
	if rows >= 1024 {
		want = 112
	}
	return max(1, want/group) * group
}

// compensator works on chunks of rows with buffers of its own. Columns stand in the
// factor's order. Slices are [rows, n] unless it says otherwise.
type compensator struct {
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
	sums        []float32 // feedback of the columns that are quantized
	part        []float32 // [rows, solveBlock]: errors or changes of a block
	levels      levels
	refit       refit
	kept        struct {
		index       []uint8
		lut, scales []uint16
		errs, grad  []float32
	}
}

// chunk works on rows first to first+rows-1, which are whole groups, and writes them to
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
	s.feedback()
	s.gradient()
	best := s.better(r.PlainError)
	for range s.rounds {
		s.fit()
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
