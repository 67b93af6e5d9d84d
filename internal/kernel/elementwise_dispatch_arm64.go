package kernel

// Slices have a multiple of 16 elements, all of one length.

func maxOf(l isa, x []float32, maxes *[16]float32) {
	n := len(x)
	if n == 0 {
		return
	}
	if l == isaNEON {
		maxOfNEON(&x[0], n, maxes)
	} else {
		maxOfGo(x, maxes)
	}
}

func scaleMax(l isa, x []float32, scale float32, maxes *[16]float32) {
	n := len(x)
	if n == 0 {
		return
	}
	if l == isaNEON {
		scaleMaxNEON(&x[0], scale, n, maxes)
	} else {
		scaleMaxGo(x, scale, maxes)
	}
}

func expSum(l isa, x []float32, sub float32, total *lanes) {
	n := len(x)
	if n == 0 {
		return
	}
	if l == isaNEON {
		expSumNEON(&x[0], sub, n, (*[16]float64)(total))
	} else {
		expSumGo(x, sub, total)
	}
}

func sumExp(l isa, x []float32, sub float32, total *lanes) {
	n := len(x)
	if n == 0 {
		return
	}
	if l == isaNEON {
		sumExpNEON(&x[0], sub, n, (*[16]float64)(total))
	} else {
		sumExpGo(x, sub, total)
	}
}

func klSum(l isa, p, q []float32, c *klParams, total *lanes) {
	n := len(p)
	if n == 0 {
		return
	}
	_ = q[n-1]
	if l == isaNEON {
		klSumNEON(&p[0], &q[0], &c.pHi, n, (*[16]float64)(total))
	} else {
		klSumGo(p, q, c, total)
	}
}

func sumSquares(l isa, x []float32, total *lanes) {
	n := len(x)
	if n == 0 {
		return
	}
	if l == isaNEON {
		sumSquaresNEON(&x[0], n, (*[16]float64)(total))
	} else {
		sumSquaresGo(x, total)
	}
}

func mulScalar(l isa, x []float32, s float32) {
	n := len(x)
	if n == 0 {
		return
	}
	if l == isaNEON {
		mulScalarNEON(&x[0], s, n)
	} else {
		mulScalarGo(x, s)
	}
}

func normMul(l isa, dst, x, w []float32, inv float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_, _ = x[n-1], w[n-1]
	if l == isaNEON {
		normMulNEON(&dst[0], &x[0], &w[0], inv, n)
	} else {
		normMulGo(dst, x, w, inv)
	}
}

func siluMul(l isa, dst, gate, up []float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_, _ = gate[n-1], up[n-1]
	if l == isaNEON {
		siluMulNEON(&dst[0], &gate[0], &up[0], n)
	} else {
		siluMulGo(dst, gate, up)
	}
}

func rotate(l isa, lo, hi, cos, sin []float32) {
	n := len(lo)
	if n == 0 {
		return
	}
	_, _, _ = hi[n-1], cos[n-1], sin[n-1]
	if l == isaNEON {
		rotateNEON(&lo[0], &hi[0], &cos[0], &sin[0], n)
	} else {
		rotateGo(lo, hi, cos, sin)
	}
}

func addTo(l isa, dst, x []float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_ = x[n-1]
	if l == isaNEON {
		addToNEON(&dst[0], &x[0], n)
	} else {
		addToGo(dst, x)
	}
}

func addScaled(l isa, dst, x []float32, s float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_ = x[n-1]
	if l == isaNEON {
		addScaledNEON(&dst[0], &x[0], s, n)
	} else {
		addScaledGo(dst, x, s)
	}
}

func siluMulBack(l isa, gate, up, grad []float32) {
	n := len(gate)
	if n == 0 {
		return
	}
	_, _ = up[n-1], grad[n-1]
	if l == isaNEON {
		siluMulBackNEON(&gate[0], &up[0], &grad[0], n)
	} else {
		siluMulBackGo(gate, up, grad)
	}
}

func dotSum(l isa, x, y []float32, total *lanes) {
	n := len(x)
	if n == 0 {
		return
	}
	_ = y[n-1]
	if l == isaNEON {
		dotSumNEON(&x[0], &y[0], n, (*[16]float64)(total))
	} else {
		dotSumGo(x, y, total)
	}
}

func mulTo(l isa, dst, x []float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_ = x[n-1]
	if l == isaNEON {
		mulToNEON(&dst[0], &x[0], n)
	} else {
		mulToGo(dst, x)
	}
}

func subMul(l isa, dst, x []float32, s float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_ = x[n-1]
	if l == isaNEON {
		subMulNEON(&dst[0], &x[0], s, n)
	} else {
		subMulGo(dst, x, s)
	}
}
