package safetensors

import (
	"encoding/binary"
	"reflect"
	"unsafe"

	"afmq/pkg/fault"
)

// Tensor is a tensor of an open file. It is immutable and has no data of its own: the
// slices that it returns are parts of the mapped file.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // row-major; empty for a scalar; an entry may be 0

	file       *File
	begin, end int64 // file offsets of the data
}

// NumElements returns the number of elements, 1 for a scalar.
func (t *Tensor) NumElements() int { return int(t.end-t.begin) / t.DType.Size() }

// Path returns the path of the file that contains the tensor.
func (t *Tensor) Path() string { return t.file.path }

// Bytes returns the tensor's data as stored, little-endian and row-major. The slice is
// the mapped file: it is read-only (writing to it crashes) and valid until Close.
func (t *Tensor) Bytes() []byte { return t.file.m.data[t.begin:t.end:t.end] }

// Element lists the element types of View. F16 and BF16 are viewed as uint16 bit
// patterns, BOOL as bool or uint8, F8_E4M3 and F8_E5M2 as uint8 bit patterns.
type Element interface {
	float64 | float32 | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | bool
}

// View returns the tensor's elements, row-major. The slice is the mapped file, or a
// copy if the data is not aligned for T; it is read-only and valid until Close. It is
// an error of kind fault.Input if T does not match the tensor's type or a BOOL byte is
// neither 0 nor 1.
func View[T Element](t *Tensor) ([]T, error) {
	kind := reflect.TypeFor[T]().Kind()
	if !viewable(t.DType, kind) {
		return nil, fault.Inputf(t.Path(), "tensor %q: type is %s, expected %s", t.Name, t.DType, kind)
	}
	b := t.Bytes()
	n := t.NumElements()
	if n == 0 {
		return []T{}, nil
	}
	if kind == reflect.Bool {
		for i, v := range b {
			if v > 1 {
				return nil, fault.Inputf(t.Path(), "tensor %q: element %d is %d; a BOOL is 0 or 1", t.Name, i, v)
			}
		}
	}
	size := t.DType.Size()
	p := unsafe.Pointer(unsafe.SliceData(b))
	if little && uintptr(p)%uintptr(size) == 0 {
		return unsafe.Slice((*T)(p), n), nil
	}
	v := make([]T, n)
	q := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(b))
	copy(q, b)
	if !little {
		swap(q, size)
	}
	return v, nil
}

// little reports whether the machine is little-endian, as files are.
var little = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// swap reverses the byte order of every element of the given size.
func swap(b []byte, size int) {
	for ; len(b) >= size; b = b[size:] {
		for i, j := 0, size-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
}

// viewable reports whether View offers elements of type d as Go type k.
func viewable(d DType, k reflect.Kind) bool {
	switch d {
	case F64:
		return k == reflect.Float64
	case F32:
		return k == reflect.Float32
	case F16, BF16, U16:
		return k == reflect.Uint16
	case I8:
		return k == reflect.Int8
	case I16:
		return k == reflect.Int16
	case I32:
		return k == reflect.Int32
	case I64:
		return k == reflect.Int64
	case U8, F8E4M3, F8E5M2:
		return k == reflect.Uint8
	case U32:
		return k == reflect.Uint32
	case U64:
		return k == reflect.Uint64
	case BOOL:
		return k == reflect.Bool || k == reflect.Uint8
	}
	return false
}

// Release gives the memory of the tensor's data back to the system; the data is read
// from the file again when it is next used. Only pages wholly inside the tensor are
// released. Mapped pages count towards the process's resident memory, so a program
// that reads a large file should release each tensor after use.
func (t *Tensor) Release() { t.file.m.release(t.begin, t.end) }

// ReleasePart is [Tensor.Release] for the bytes [from, to) of the data.
func (t *Tensor) ReleasePart(from, to int64) {
	t.file.m.release(t.begin+from, min(t.begin+to, t.end))
}
