package kernel

// The twins of the loops that measure a core: benchmarks give every figure as a
// share of what these reach in the same run.

// peakGo does n rounds of independent multiply-adds and returns the number of
// floating-point operations. Go keeps eight such chains in registers.
func peakGo(n int) int {
	var a, b, c, d, e, f, g, h float32
	x := float32(n) * 0
	for range n {
		a += float32(x * x)
		b += float32(x * x)
		c += float32(x * x)
		d += float32(x * x)
		e += float32(x * x)
		f += float32(x * x)
		g += float32(x * x)
		h += float32(x * x)
	}
	return 16*n + int(a+b+c+d+e+f+g+h)
}

// streamGo reads b and returns something that depends on it.
func streamGo(b []byte, _ bool) (sum uint64) {
	for _, v := range b {
		sum |= uint64(v)
	}
	return sum
}

// peakTilesGo counts nothing: without tiles there is no such limit.
func peakTilesGo(*[64]byte, *[1024]uint16, int) int { return 0 }
