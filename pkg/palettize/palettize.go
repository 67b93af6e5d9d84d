package palettize

import (
	"fmt"
	"math"

	"afmq/internal/kernel"
)

// Source is the matrix to compress, row-major [rows, cols]. Exactly one field is
// set: F16 and BF16 hold the bits of 16-bit floats.
type Source struct {
	F16, BF16 []uint16
	F32       []float32
}

// Options say how to compress a matrix.
type Options struct {
	Bits       int       // width of an index, 1 to 8
	GroupRows  int       // rows that share a look-up table; 0 means DefaultGroupRows
	Importance []float32 // [cols], what an error in a column costs, not negative; nil means 1 everywhere. A group whose weights all have importance 0 is fitted as with nil.
}

// Report says how much a matrix lost. Both figures count every weight once,
// whatever the importance, and belong to the final fp16 tables.
type Report struct {
	SquaredError float64 // Σ (w - ŵ)²
	SquaredNorm  float64 // Σ w²
}

// RelError returns the relative error ‖W-Ŵ‖/‖W‖ in the Frobenius norm; 0 for a
// matrix of zeros.
func (r Report) RelError() float64 {
	if r.SquaredError == 0 {
		return 0
	}
	return math.Sqrt(r.SquaredError / r.SquaredNorm)
}

// ValueError reports a weight that cannot be palettized. The caller knows the
// names of file and tensor, and adds them.
type ValueError struct {
	Row, Col int     // the weight; for Reason "importance" Row is -1
	Value    float64 // what stands there
	Reason   string  // why it cannot be used
}

func (e *ValueError) Error() string {
	if e.Row < 0 {
		return fmt.Sprintf("column %d: %v %s", e.Col, e.Value, e.Reason)
	}
	return fmt.Sprintf("row %d, column %d: %v %s", e.Row, e.Col, e.Value, e.Reason)
}

// Palettize compresses src, a matrix [rows, cols], with the tables that leave the
// least squared error (see the package comment). Groups are shared among the
// workers of pool; the result does not depend on their number. A weight that
// cannot be represented is a [*ValueError]; of several, the first in row-major
// order is reported.
func Palettize(pool *kernel.Pool, src Source, rows, cols int, opt Options) (*Matrix, Report, error) {
	panic("to do")
}
