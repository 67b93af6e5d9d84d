package kernel

// The twins of the loops that measure the peak rates of a core. Benchmarks report results relative
// to the rates that these loops reach in the same run.

// peakGo executes n rounds of eight independent multiply-adds, whose sums fit in registers, and
// returns the number of floating-point operations.
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

// streamGo reads b and returns a value that depends on every byte.
func streamGo(b []byte, _ bool) (sum uint64) {
	for _, v := range b {
		sum |= uint64(v)
	}
	return sum
}

// peakTilesGo returns 0: there is no peak rate of tiles without tiles.
func peakTilesGo(*[64]byte, *[1024]uint16, int) int { return 0 }
