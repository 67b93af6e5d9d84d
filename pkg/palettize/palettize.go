package palettize

import (
	"fmt"
	"math"
	"sync"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// Source is the matrix to compress, [rows, cols] in row-major order. Exactly one field is
// set; F16 and BF16 hold the bits of 16-bit floats.
type Source struct {
	F16, BF16 []uint16
	F32       []float32
}

// Part returns the elements [from, to) of the source, whose memory it shares.
func (s Source) Part(from, to int) Source {
	switch {
	case s.F16 != nil:
		s.F16 = s.F16[from:to]
	case s.BF16 != nil:
		s.BF16 = s.BF16[from:to]
	default:
		s.F32 = s.F32[from:to]
	}
	return s
}

// Float32 writes the elements from start on to dst, row-major.
func (s Source) Float32(dst []float32, start int) {
	switch {
	case s.F16 != nil:
		kernel.F16ToF32(dst, s.F16[start:start+len(dst)])
	case s.BF16 != nil:
		kernel.BF16ToF32(dst, s.BF16[start:start+len(dst)])
	default:
		copy(dst, s.F32[start:start+len(dst)])
	}
}

// Options configure the compression of a matrix. The zero value gives 4 bits per index, one
// look-up table for 16 rows, and row scales.
type Options struct {
	Bits      int // bits per index, 1 to 8; 0 for DefaultBits
	GroupRows int // rows that share a look-up table; 0 for DefaultGroupRows

	// Importance [cols] is the cost of a squared error in each column, finite and not
	// negative; nil means 1 everywhere. If it is 0 everywhere, it is ignored.
	Importance []float32

	// NoRowScale omits the row scales, the fp16 factors with which rows of different range
	// share a table. Without them the tables are optimal before they are rounded. With them
	// scales and tables are fitted alternately, and the result is not optimal; see the package
	// comment.
	NoRowScale bool
}

// Report gives the error of a compressed matrix, with the final fp16 tables. Every weight
// counts once, independent of the importance. The sums are in float64 in a fixed order.
type Report struct {
	SquaredError float64 // Σ (w - ŵ)²
	SquaredNorm  float64 // Σ w²
}

// RelError returns the relative error ‖W-Ŵ‖/‖W‖ in the Frobenius norm; 0 for a matrix of
// zeros.
func (r Report) RelError() float64 {
	if r.SquaredError == 0 {
		return 0
	}
	return math.Sqrt(r.SquaredError / r.SquaredNorm)
}

// ValueError is a weight or an importance that cannot be used. The caller adds the names of
// file and tensor.
type ValueError struct {
	Row, Col int     // position; Row is -1 for an importance
	Value    float64 // the value
	Reason   string  // why it cannot be used, for example "is not finite"
}

// Error returns "row R, column C: VALUE REASON".
func (e *ValueError) Error() string {
	if e.Row < 0 {
		return fmt.Sprintf("column %d: importance %v %s", e.Col, e.Value, e.Reason)
	}
	return fmt.Sprintf("row %d, column %d: %v %s", e.Row, e.Col, e.Value, e.Reason)
}

const (
	notFinite = "is not finite"
	tooLarge  = "belongs to a cluster whose mean exceeds the largest fp16 value, 65504"
)

// maxGroup is the largest number of weights in a group; counts and positions are 32 bits.
const maxGroup = 1<<31 - 1

// Palettize compresses src, a matrix [rows, cols], to minimize the squared error of the
// weights. The package comment describes the method and says in which cases the tables are
// optimal. pool may be nil; the result does not depend on the number of threads.
//
// A weight or an importance that cannot be represented is a [*ValueError]: the first one in
// row-major order in the first group that has one. Sizes or options out of range are plain
// errors.
func Palettize(pool *compute.Pool, src Source, rows, cols int, opt Options) (*Matrix, Report, error) {
	if opt.Bits == 0 {
		opt.Bits = DefaultBits
	}
	if opt.GroupRows == 0 {
		opt.GroupRows = DefaultGroupRows
	}
	if err := checkArguments(src, rows, cols, opt.GroupRows, opt); err != nil {
		return nil, Report{}, err
	}
	m := &Matrix{Rows: rows, Cols: cols, Bits: opt.Bits, GroupRows: opt.GroupRows}
	m.Indices = make([]byte, rows*m.RowBytes())
	m.LUT = make([]uint16, m.Groups()<<m.Bits)
	if !opt.NoRowScale {
		m.RowScale = make([]uint16, rows)
	}
	reports := make([]Report, m.Groups())
	errs := make([]error, m.Groups())
	workers := make([]*worker, pool.Threads())
	pool.Run(m.Groups(), func(id, g int) {
		if workers[id] == nil {
			workers[id] = scratch.Get().(*worker)
			workers[id].m, workers[id].src, workers[id].importance = m, src, opt.Importance
			workers[id].solver.precise.check = pool.Check
		}
		reports[g], errs[g] = workers[id].group(g)
	})
	for _, w := range workers {
		if w != nil {
			w.m, w.src, w.importance, w.solver.precise.check = nil, Source{}, nil, nil
			scratch.Put(w)
		}
	}
	var sum Report
	for g := range reports {
		if errs[g] != nil {
			return nil, Report{}, errs[g]
		}
		sum.SquaredError += reports[g].SquaredError
		sum.SquaredNorm += reports[g].SquaredNorm
	}
	return m, sum, nil
}

// scratch keeps the buffers of the workers, a few MiB each, between matrices.
var scratch = sync.Pool{New: func() any { return new(worker) }}

// checkArguments returns an error if sizes or options are out of range.
func checkArguments(src Source, rows, cols, group int, opt Options) error {
	set, n := 0, 0
	for _, length := range []int{len(src.F16), len(src.BF16), len(src.F32)} {
		if length > 0 {
			set++
			n = length
		}
	}
	switch {
	case rows < 1 || cols < 1:
		return fmt.Errorf("cannot palettize a matrix of %d rows and %d columns", rows, cols)
	case opt.Bits < 1 || opt.Bits > MaxBits:
		return fmt.Errorf("cannot palettize to %d bits, only to 1 to %d", opt.Bits, MaxBits)
	case group < 1:
		return fmt.Errorf("cannot palettize in groups of %d rows", group)
	case set != 1 || n/cols != rows || n%cols != 0:
		return fmt.Errorf("%d weights of %d types for a matrix of %d rows and %d columns", n, set, rows, cols)
	case min(group, rows)*cols > maxGroup:
		return fmt.Errorf("a group of %d rows of %d columns is too large", group, cols)
	case opt.Importance != nil && len(opt.Importance) != cols:
		return fmt.Errorf("%d importances for %d columns", len(opt.Importance), cols)
	}
	for c, v := range opt.Importance {
		if x := float64(v); !(x >= 0) || math.IsInf(x, 1) {
			return &ValueError{Row: -1, Col: c, Value: x, Reason: "is not finite and 0 or more"}
		}
	}
	return nil
}
