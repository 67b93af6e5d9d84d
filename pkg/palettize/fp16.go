package palettize

import "math"

// maxF16 is the largest finite fp16 value.
const maxF16 = 65504

// finiteF16 reports whether h is neither NaN nor ±Inf.
func finiteF16(h uint16) bool { return h&0x7c00 != 0x7c00 }

// f16Value returns the value of the fp16 number h.
func f16Value(h uint16) float64 {
	v := 0.0
	switch e, m := h>>10&31, h&1023; e {
	case 0:
		v = float64(m) * 0x1p-24
	case 31:
		v = math.Inf(1)
		if m != 0 {
			v = math.NaN()
		}
	default:
		v = math.Float64frombits(uint64(h&0x7fff)<<42 + (1023-15)<<52)
	}
	if h&0x8000 != 0 {
		v = -v
	}
	return v
}

// roundF16 rounds v to the nearest fp16 value, ties to even, in one step; a conversion by
// way of float32 would round twice. ok is false if the magnitude rounds to more than the
// largest finite value. Zero of either sign becomes +0.
func roundF16(v float64) (h uint16, ok bool) {
	a := math.Abs(v)
	if !(a < maxF16+16) { // halfway to 65536; a tie rounds up, to even
		return 0, false
	}
	// Adding and subtracting 1.5·2^52 ulp rounds to a multiple of the ulp, ties to even.
	// The ulp is 2^-24 for subnormals and 2^(e-10) for a in [2^e, 2^(e+1)).
	e := max(int(math.Float64bits(a)>>52)-1023, -14)
	magic := math.Float64frombits(uint64(e-10+1023+52)<<52 | 1<<51)
	a = (a + magic) - magic
	if a == 0 {
		return 0, true
	}
	if a < 0x1p-14 {
		h = uint16(a * 0x1p24)
	} else {
		h = uint16(math.Float64bits(a)>>42 - (1023-15)<<10)
	}
	if v < 0 {
		h |= 0x8000
	}
	return h, true
}

// valuesF16 writes the values of finite fp16 numbers to dst.
func valuesF16(dst []float64, codes []uint16) {
	dst = dst[:len(codes)]
	for i, c := range codes {
		sign, magnitude := uint64(c&0x8000)<<48, uint64(c&0x7fff)
		b := magnitude<<42 + (1023-15)<<52
		if magnitude < 1<<10 {
			b = math.Float64bits(float64(magnitude) * 0x1p-24)
		}
		dst[i] = math.Float64frombits(b | sign)
	}
}

// compareF16 orders finite fp16 numbers by value, for package slices.
func compareF16(a, b uint16) int {
	x, y := f16Value(a), f16Value(b)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
