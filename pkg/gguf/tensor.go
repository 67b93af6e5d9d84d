package gguf

import (
	"fmt"

	"afmq/pkg/ggml"
)

// Tensor is a tensor of an open file.
type Tensor struct {
	Name string
	Type ggml.Type
	// Shape is row-major: the last entry is the length of a row, the first dimension in the file.
	// It is empty for a scalar, and an entry may be 0.
	Shape []int

	file        *File
	begin, size int64 // file offset and size of the data, in bytes
}

// Columns returns the length of a row in elements, 1 for a scalar.
func (t *Tensor) Columns() int {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

// Rows returns the number of rows, the product of all dimensions but the last; 1 for a scalar.
func (t *Tensor) Rows() int {
	n := 1
	for i := range len(t.Shape) - 1 {
		n *= t.Shape[i]
	}
	return n
}

// RowBytes returns the size of a row in bytes.
func (t *Tensor) RowBytes() int { return t.Type.RowBytes(t.Columns()) }

// Bytes returns the size of the data in bytes, without padding.
func (t *Tensor) Bytes() int64 { return t.size }

// Offset returns where in the file the data begin.
func (t *Tensor) Offset() int64 { return t.begin }

// Path returns the path of the file that contains the tensor.
func (t *Tensor) Path() string { return t.file.path }

// ReadRows fills dst, a whole number of rows, with the bytes of the rows from the given one. Rows
// beyond the tensor are an error. What the file does not give is an error of kind fault.Input.
func (t *Tensor) ReadRows(dst []byte, row int) error {
	if err := t.checkRows(len(dst), t.RowBytes(), row); err != nil {
		return err
	}
	return t.file.readAt(dst, t.begin+int64(row)*int64(t.RowBytes()))
}

// checkRows returns an error unless length elements are whole rows of the tensor from the given
// one.
func (t *Tensor) checkRows(length, perRow, row int) error {
	if perRow == 0 && length == 0 {
		return nil
	}
	if perRow == 0 || length%perRow != 0 || row < 0 || row > t.Rows() || length/perRow > t.Rows()-row {
		return fmt.Errorf("gguf: tensor %q has %d rows of %d; %d from row %d are not among them", t.Name, t.Rows(), perRow, length, row)
	}
	return nil
}

// chunkBytes bounds the memory that Float32 reads into.
const chunkBytes = 1 << 20

// Float32 sets dst, a whole number of rows, to the weights of the rows from the given one. Rows
// beyond the tensor and a type that package ggml does not convert are errors. What the file does
// not give is an error of kind fault.Input.
func (t *Tensor) Float32(dst []float32, row int) error {
	columns, size := t.Columns(), t.RowBytes()
	if !t.Type.Converts() {
		return fmt.Errorf("gguf: tensor %q: %v cannot be converted to float32", t.Name, t.Type)
	}
	if err := t.checkRows(len(dst), columns, row); err != nil || len(dst) == 0 {
		return err
	}
	at := min(max(chunkBytes/size, 1), len(dst)/columns)
	buf := make([]byte, at*size)
	for len(dst) > 0 {
		n := min(at, len(dst)/columns)
		if err := t.ReadRows(buf[:n*size], row); err != nil {
			return err
		}
		if err := t.Type.Dequantize(dst[:n*columns], buf[:n*size]); err != nil {
			return err
		}
		dst, row = dst[n*columns:], row+n
	}
	return nil
}
