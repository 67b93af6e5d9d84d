package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Float32 converts elements [start, start+len(dst)) in row-major order to float32.
//
// F32, F16, BF16, F8_E4M3, F8_E5M2, I8, U8, I16, U16 and BOOL (0 or 1) convert exactly,
// except that a signaling NaN becomes a quiet NaN, in F16 and BF16 with the same sign and
// payload.
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
	case F8E4M3:
		for i := range dst {
			dst[i] = FromE4M3(b[i])
		}
	case F8E5M2:
		for i := range dst {
			dst[i] = half(uint16(b[i]) << 8)
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

// FromE4M3 returns the value of the bits of an F8_E4M3, whose only NaN has all bits of exponent and mantissa.
// Shifted to the position of a float32 they represent the value times 2^-120.
func FromE4M3(v byte) float32 {
	sign, bits := uint32(v&0x80)<<24, uint32(v&0x7f)<<20
	if v&0x7f == 0x7f {
		return math.Float32frombits(sign | 0x7fc00000)
	}
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(bits)*0x1p120))
}

// E4M3 rounds v to the nearest F8_E4M3, ties to even, and returns its bits. What rounds to more
// than 448, the largest, is its NaN, as are infinities and NaN.
func E4M3(v float32) byte {
	bits := math.Float32bits(v)
	sign, magnitude := byte(bits>>24)&0x80, math.Float32frombits(bits&0x7fffffff)
	if !(magnitude < 464) { // half a step above 448; 464 itself is a tie, to the even neighbour
		if magnitude == 464 {
			return sign | 0x7e
		}
		return sign | 0x7f
	}
	if magnitude < 0x1p-6 { // subnormal: multiples of 2^-9
		return sign | byte(math.RoundToEven(float64(magnitude)*0x1p9))
	}
	m := bits & 0x7fffffff
	m += 1<<19 - 1 + m>>20&1
	return sign | byte(m>>20-120<<3)
}

// quiet sets the quiet bit of a NaN, as conversions in hardware do.
func quiet(bits uint32) uint32 {
	if bits&0x7fffffff > 0x7f800000 {
		bits |= 0x00400000
	}
	return bits
}
