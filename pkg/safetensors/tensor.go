package safetensors

import (
	"encoding/binary"
	"reflect"
	"unsafe"

	"afmq/pkg/fault"
)

// Tensor is one tensor of an open file. It is immutable and holds no data of its
// own: the slices it hands out are the mapped file.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // row-major; empty for a scalar; an entry may be 0

	file       *File
	begin, end int64 // in the file
}

// NumElements returns the product of the shape, 1 for a scalar.
func (t *Tensor) NumElements() int { return int(t.end-t.begin) / t.DType.Size() }

// Path returns the path of the file that the tensor is in.
func (t *Tensor) Path() string { return t.file.path }

// Bytes returns the tensor's data, little-endian, row-major, as it lies in the
// file: mapped, not copied, read-only (a write to it is a crash), valid until
// Close.
func (t *Tensor) Bytes() []byte { return t.file.m.data[t.begin:t.end:t.end] }

// Element is the Go types that View offers. F16 and BF16 are seen as the uint16
// of their bits, BOOL as bool or uint8.
type Element interface {
	float64 | float32 | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | bool
}

// View returns the tensor's elements, row-major: the mapped file itself, or a
// copy where the data is not aligned for T. It is read-only and valid until
// Close. A T that is not the tensor's type, and a BOOL byte that is neither 0 nor
// 1, is an error of kind fault.Input.
func View[T Element](t *Tensor) ([]T, error) {
	kind := reflect.TypeFor[T]().Kind()
	if !viewable(t.DType, kind) {
		return nil, fault.Inputf(t.Path(), "tensor %q: %s where %s is expected", t.Name, t.DType, kind)
	}
	b := t.Bytes()
	n := t.NumElements()
	if n == 0 {
		return []T{}, nil
	}
	if kind == reflect.Bool {
		for i, v := range b {
			if v > 1 {
				return nil, fault.Inputf(t.Path(), "tensor %q: element %d is %d, no BOOL", t.Name, i, v)
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

// little says that the machine orders bytes as files do.
var little = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// swap reverses the bytes of every element of the given size.
func swap(b []byte, size int) {
	for ; len(b) >= size; b = b[size:] {
		for i, j := 0, size-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
}

// viewable says which Go types show a tensor's elements as they are.
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
	case U8:
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

// Release tells the system that the tensor's data was read and its memory may go;
// it is read from the file again when it is needed again. Only pages that lie
// wholly inside the tensor go. Mapped pages count as the process's memory, so a
// program that walks a large file releases each tensor it is done with.
func (t *Tensor) Release() { t.file.m.release(t.begin, t.end) }
