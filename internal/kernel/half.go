package kernel

import (
	"fmt"
	"math"
)

// F16ToF32 widens bits of IEEE half precision. The result is exact; a signalling NaN becomes a quiet
// NaN with the same payload. dst and src have equal lengths.
func F16ToF32(dst []float32, src []uint16) {
	sameLength("F16ToF32", len(dst), len(src))
	n := len(src) &^ 15
	lv := currentISA()
	widenF16(lv, dst[:n], src[:n])
	for i := n; i < len(src); i++ {
		dst[i] = halfToFloat(src[i])
	}
}

// BF16ToF32 widens bits of bfloat16. The result is exact. dst and src have equal lengths.
func BF16ToF32(dst []float32, src []uint16) {
	sameLength("BF16ToF32", len(dst), len(src))
	n := len(src) &^ 15
	lv := currentISA()
	widenBF16(lv, dst[:n], src[:n])
	for i := n; i < len(src); i++ {
		dst[i] = bfloatToFloat(src[i])
	}
}

// F32ToF16 rounds to IEEE half precision, to nearest with ties to even. Magnitudes of 65520 or more
// become infinite; NaN stays NaN. dst and src have equal lengths.
func F32ToF16(dst []uint16, src []float32) {
	sameLength("F32ToF16", len(dst), len(src))
	n := len(src) &^ 15
	narrowF16(currentISA(), dst[:n], src[:n])
	narrowF16Go(dst[n:], src[n:])
}

// F32ToBF16 rounds to bfloat16, to nearest with ties to even; NaN stays NaN. dst and src have equal
// lengths.
func F32ToBF16(dst []uint16, src []float32) {
	sameLength("F32ToBF16", len(dst), len(src))
	n := len(src) &^ 15
	narrowBF16(currentISA(), dst[:n], src[:n])
	narrowBF16Go(dst[n:], src[n:])
}

// sameLength panics unless the two lengths of operation name are equal.
func sameLength(name string, dst, src int) {
	if dst != src {
		panic(fmt.Sprintf("kernel: %s: dst has %d elements, src %d", name, dst, src))
	}
}

// halfToFloat is F16ToF32 for one value.
func halfToFloat(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	mag := uint32(h & 0x7fff)
	switch {
	case mag > 0x7c00: // NaN: quiet, payload kept
		return math.Float32frombits(sign | 0x7fc00000 | mag<<13)
	case mag == 0x7c00:
		return math.Float32frombits(sign | 0x7f800000)
	case mag < 0x0400: // subnormal halves are multiples of 2^-24, normal as float32
		return math.Float32frombits(sign | math.Float32bits(float32(mag)*0x1p-24))
	}
	return math.Float32frombits(sign | (mag<<13 + (127-15)<<23))
}

// floatToHalf is F32ToF16 for one value.
func floatToHalf(f float32) uint16 {
	u := math.Float32bits(f)
	sign := uint16(u >> 16 & 0x8000)
	mag := u & 0x7fffffff
	switch {
	case mag > 0x7f800000:
		return sign | 0x7e00 | uint16(mag>>13&0x3ff)
	case mag >= 0x477ff000: // 65520 rounds up to 2^16
		return sign | 0x7c00
	case mag < 0x38800000:
		// Below 2^-14 the last place is 2^-24, which is that of float32 values in [0.5, 1): adding
		// 0.5 rounds to it.
		sum := math.Float32frombits(mag) + 0.5
		return sign | uint16(math.Float32bits(sum)-0x3f000000)
	}
	mag += 0xfff + mag>>13&1 // to nearest, ties to even
	return sign | uint16((mag-(127-15)<<23)>>13)
}

// bfloatToFloat is BF16ToF32 for one value.
func bfloatToFloat(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// floatToBfloat is F32ToBF16 for one value.
func floatToBfloat(f float32) uint16 {
	u := math.Float32bits(f)
	if u&0x7fffffff > 0x7f800000 {
		return uint16(u>>16) | 0x40 // set the quiet bit: truncation may leave no other bit of the payload
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}
