package grid

import (
	"afmq/internal/kernel"
	"afmq/pkg/safetensors"
)

// half rounds v to a 16-bit float of a type, F16 or BF16, and returns its bits and its value. What
// exceeds the type is its largest finite value.
func half(t safetensors.DType, v float64) (uint16, float32) {
	f, bits := [1]float32{float32(v)}, [1]uint16{}
	if t == safetensors.BF16 {
		f[0] = min(max(f[0], -maxBfloat), maxBfloat)
		kernel.F32ToBF16(bits[:], f[:])
		kernel.BF16ToF32(f[:], bits[:])
		return bits[0], f[0]
	}
	f[0] = min(max(f[0], -maxHalf), maxHalf)
	kernel.F32ToF16(bits[:], f[:])
	kernel.F16ToF32(f[:], bits[:])
	return bits[0], f[0]
}

// The largest finite values.
const (
	maxHalf   = 65504
	maxBfloat = 0x1.fep127
)

// smallestHalf is the smallest positive fp16 value.
const smallestHalf = 0x1p-24

// widen returns the values of elements first to end-1 of packed 16-bit floats.
func widen(t safetensors.DType, packed []byte, first, end int) []float32 {
	bits, out := halves(packed[2*first:2*end]), make([]float32, end-first)
	if t == safetensors.BF16 {
		kernel.BF16ToF32(out, bits)
	} else {
		kernel.F16ToF32(out, bits)
	}
	return out
}
