package compute

import "afmq/internal/kernel"

// Matrix is a weight matrix W [Rows, Cols] packed for products. It is made by one of the
// Pack functions, is never changed afterwards, and may be used by any number of goroutines
// at once. It keeps the stored type in memory: fp16 weights stay fp16, palettes stay
// indices and look-up tables.
type Matrix kernel.Matrix

func (w *Matrix) kernel() *kernel.Matrix { return (*kernel.Matrix)(w) }

// PackF32 packs w, [rows, cols] row-major, as float32.
func PackF32(rows, cols int, w []float32) *Matrix { return (*Matrix)(kernel.PackF32(rows, cols, w)) }

// PackF32Rows packs a matrix [rows, cols] as float32. fill computes its rows [r0, r1) into dst,
// [r1-r0, cols], a few at a time, so that no second copy of the matrix is needed. The error is the
// first that fill returns.
func PackF32Rows(rows, cols int, fill func(dst []float32, r0, r1 int) error) (*Matrix, error) {
	m, err := kernel.PackF32Rows(rows, cols, fill)
	return (*Matrix)(m), err
}

// PackF32 is the function of that name on the pool's workers.
func (p *Pool) PackF32(rows, cols int, w []float32) *Matrix {
	return (*Matrix)(p.kernel().PackF32(rows, cols, w))
}

// PackF16 packs w, [rows, cols] row-major as bits of IEEE half precision.
func PackF16(rows, cols int, w []uint16) *Matrix { return (*Matrix)(kernel.PackF16(rows, cols, w)) }

// PackBF16 packs w, [rows, cols] row-major as bits of bfloat16.
func PackBF16(rows, cols int, w []uint16) *Matrix { return (*Matrix)(kernel.PackBF16(rows, cols, w)) }

// PackInt8 packs symmetric 8-bit weights q, [rows, cols] row-major, with one factor per row:
// the weight is float32(q)·scale[row].
func PackInt8(rows, cols int, q []int8, scale []float32) *Matrix {
	return (*Matrix)(kernel.PackInt8(rows, cols, q, scale))
}

// PackLUT packs a palettized matrix from its stored form: indices [rows, ⌈cols·bits/8⌉]
// packed LSB first in each row, lut [⌈rows/groupRows⌉, 2^bits] and rowScale [rows] as bits
// of half precision; rowScale may be nil, which stands for ones. bits is 1 to 8.
func PackLUT(rows, cols, bits, groupRows int, indices []byte, lut, rowScale []uint16) *Matrix {
	return (*Matrix)(kernel.PackLUT(rows, cols, bits, groupRows, indices, lut, rowScale))
}

// Rows returns the number of outputs, the rows of W.
func (w *Matrix) Rows() int { return w.kernel().Rows() }

// Cols returns the number of inputs, the columns of W.
func (w *Matrix) Cols() int { return w.kernel().Cols() }

// Bytes returns the memory that the packed weights take, tables and padding included.
func (w *Matrix) Bytes() int64 { return w.kernel().Bytes() }

// Equal reports whether two matrices are packed from the same stored bits in the same form.
func (w *Matrix) Equal(v *Matrix) bool { return w.kernel().Equal(v.kernel()) }

// Row writes the float32 values of row r of W to dst, which has Cols elements.
func (w *Matrix) Row(dst []float32, r int) { w.kernel().Row(dst, r) }
