package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Float32 converts elements [start, start+len(dst)) in row-major order to float32.
//
// F32, F16, BF16, I8, U8, I16, U16 and BOOL (0 or 1) convert exactly, except that a
// signaling NaN in F16 or BF16 becomes a quiet NaN with the same sign and payload.
// F64, I32, U32, I64 and U64 are rounded to the nearest float32, ties to even; an F64
// beyond the range of float32 becomes an infinity.
//
// A range that exceeds the tensor is an error.
func (t *Tensor) Float32(dst []float32, start int) error {
	if n := t.NumElements(); start < 0 || start > n || len(dst) > n-start {
		return fmt.Errorf("safetensors: elements [%d,%d) of tensor %q, which has %d", start, start+len(dst), t.Name, n)
	}
	size := t.DType.Size()
	b := t.Bytes()[start*size:][:len(dst)*size]
	le := binary.LittleEndian
	switch t.DType {
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(b[8*i:])))
		}
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(b[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = half(le.Uint16(b[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(quiet(uint32(le.Uint16(b[2*i:])) << 16))
		}
	case I8:
		for i := range dst {
			dst[i] = float32(int8(b[i]))
		}
	case I16:
		for i := range dst {
			dst[i] = float32(int16(le.Uint16(b[2*i:])))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(le.Uint32(b[4*i:])))
		}
	case I64:
		for i := range dst {
			dst[i] = float32(int64(le.Uint64(b[8*i:])))
		}
	case U8:
		for i := range dst {
			dst[i] = float32(b[i])
		}
	case U16:
		for i := range dst {
			dst[i] = float32(le.Uint16(b[2*i:]))
		}
	case U32:
		for i := range dst {
			dst[i] = float32(le.Uint32(b[4*i:]))
		}
	case U64:
		for i := range dst {
			dst[i] = float32(le.Uint64(b[8*i:]))
		}
	case BOOL:
		for i := range dst {
			dst[i] = 0
			if b[i] != 0 {
				dst[i] = 1
			}
		}
	}
	return nil
}

// half converts the bits of an IEEE 754 binary16. Shifted to the position of a
// float32 they represent the value times 2^-112, subnormal numbers included, so one
// exact multiplication converts them. Infinities and NaNs get the full exponent
// instead.
func half(h uint16) float32 {
	bits := uint32(h&0x7fff) << 13
	sign := uint32(h&0x8000) << 16
	if h&0x7c00 == 0x7c00 {
		return math.Float32frombits(quiet(sign | bits | 0x7f800000))
	}
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(bits)*0x1p112))
}

// quiet sets the quiet bit of a NaN, as conversions in hardware do.
func quiet(bits uint32) uint32 {
	if bits&0x7fffffff > 0x7f800000 {
		bits |= 0x00400000
	}
	return bits
}
