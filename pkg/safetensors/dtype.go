package safetensors

import "fmt"

// DType is the element type of a tensor. The zero value is invalid.
type DType uint8

// The element types that this package reads and writes. The format has more (floats of
// fewer than 8 bits, scales that are powers of two, complex numbers); a file with one of
// those is refused, and the error names the type.
const (
	F64  DType = iota + 1 // IEEE 754 binary64
	F32                   // IEEE 754 binary32
	F16                   // IEEE 754 binary16
	BF16                  // the upper 16 bits of a binary32
	I8
	I16
	I32
	I64
	U8
	U16
	U32
	U64
	BOOL // one byte, 0 or 1
	// Floats of 8 bits (Micikevicius et al. 2022, arXiv:2209.05433).
	F8E4M3 // 4 bits of exponent, 3 of mantissa: up to 448, without infinities
	F8E5M2 // 5 bits of exponent, 2 of mantissa: the upper 8 bits of a binary16
)

var dtypes = [...]struct {
	name string
	size int
}{
	F64: {"F64", 8}, F32: {"F32", 4}, F16: {"F16", 2}, BF16: {"BF16", 2},
	I8: {"I8", 1}, I16: {"I16", 2}, I32: {"I32", 4}, I64: {"I64", 8},
	U8: {"U8", 1}, U16: {"U16", 2}, U32: {"U32", 4}, U64: {"U64", 8},
	BOOL: {"BOOL", 1}, F8E4M3: {"F8_E4M3", 1}, F8E5M2: {"F8_E5M2", 1},
}

var dtypeOf = func() map[string]DType {
	m := make(map[string]DType, len(dtypes))
	for d := F64; d <= F8E5M2; d++ {
		m[dtypes[d].name] = d
	}
	return m
}()

// String returns the type's name in the file format, such as "BF16".
func (d DType) String() string {
	if d < F64 || d > F8E5M2 {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// Size returns the size of one element in bytes, 0 for an invalid type.
func (d DType) Size() int {
	if d > F8E5M2 {
		return 0
	}
	return dtypes[d].size
}
