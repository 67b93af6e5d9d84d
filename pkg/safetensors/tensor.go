package safetensors

// Tensor is one tensor of an open file. It is immutable and holds no data of its
// own: the slices it hands out are the mapped file.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // row-major; empty for a scalar; an entry may be 0
}

// NumElements returns the product of the shape, 1 for a scalar.
func (t *Tensor) NumElements() int { panic("todo") }

// Path returns the path of the file that the tensor is in.
func (t *Tensor) Path() string { panic("todo") }

// Bytes returns the tensor's data, little-endian, row-major, as it lies in the
// file: mapped, not copied, read-only (a write to it is a crash), valid until
// Close.
func (t *Tensor) Bytes() []byte { panic("todo") }

// Element is the Go types that View offers. F16 and BF16 are seen as the uint16
// of their bits, BOOL as bool or uint8.
type Element interface {
	float64 | float32 | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | bool
}

// View returns the tensor's elements, row-major: the mapped file itself, or a
// copy where the data is not aligned for T. It is read-only and valid until
// Close. A T that is not the tensor's type, and a BOOL byte that is neither 0 nor
// 1, is an error of kind fault.Input.
func View[T Element](t *Tensor) ([]T, error) { panic("todo") }

// Float32 converts elements [start, start+len(dst)) to float32.
func (t *Tensor) Float32(dst []float32, start int) error { panic("todo") }

// Release tells the system that the tensor's pages were read and may go.
func (t *Tensor) Release() { panic("todo") }
