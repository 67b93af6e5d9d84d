package kernel

// Slices have a multiple of 16 elements, all of one length.

func maxOf(l isa, x []float32, maxes *[16]float32) {
	n := len(x)
	if n == 0 {
		return
	}
	switch l {
	case isaAVX512:
		maxOfAVX512(&x[0], n, maxes)
	case isaAVX2:
		maxOfAVX2(&x[0], n, maxes)
	default:
		maxOfGo(x, maxes)
	}
}

func scaleMax(l isa, x []float32, scale float32, maxes *[16]float32) {
	n := len(x)
	if n == 0 {
		return
	}
	switch l {
	case isaAVX512:
		scaleMaxAVX512(&x[0], scale, n, maxes)
	case isaAVX2:
		scaleMaxAVX2(&x[0], scale, n, maxes)
	default:
		scaleMaxGo(x, scale, maxes)
	}
}

func expSum(l isa, x []float32, sub float32, total *lanes) {
	n := len(x)
	if n == 0 {
		return
	}
	switch l {
	case isaAVX512:
		expSumAVX512(&x[0], sub, n, (*[16]float64)(total))
	case isaAVX2:
		expSumAVX2(&x[0], sub, n, (*[16]float64)(total))
	default:
		expSumGo(x, sub, total)
	}
}

func sumExp(l isa, x []float32, sub float32, total *lanes) {
	n := len(x)
	if n == 0 {
		return
	}
	switch l {
	case isaAVX512:
		sumExpAVX512(&x[0], sub, n, (*[16]float64)(total))
	case isaAVX2:
		sumExpAVX2(&x[0], sub, n, (*[16]float64)(total))
	default:
		sumExpGo(x, sub, total)
	}
}

func klSum(l isa, p, q []float32, c *klParams, total *lanes) {
	n := len(p)
	if n == 0 {
		return
	}
	_ = q[n-1]
	switch l {
	case isaAVX512:
		klSumAVX512(&p[0], &q[0], &c.pHi, n, (*[16]float64)(total))
	case isaAVX2:
		klSumAVX2(&p[0], &q[0], &c.pHi, n, (*[16]float64)(total))
	default:
		klSumGo(p, q, c, total)
	}
}

func sumSquares(l isa, x []float32, total *lanes) {
	n := len(x)
	if n == 0 {
		return
	}
	switch l {
	case isaAVX512:
		sumSquaresAVX512(&x[0], n, (*[16]float64)(total))
	case isaAVX2:
		sumSquaresAVX2(&x[0], n, (*[16]float64)(total))
	default:
		sumSquaresGo(x, total)
	}
}

func mulScalar(l isa, x []float32, s float32) {
	n := len(x)
	if n == 0 {
		return
	}
	switch l {
	case isaAVX512:
		mulScalarAVX512(&x[0], s, n)
	case isaAVX2:
		mulScalarAVX2(&x[0], s, n)
	default:
		mulScalarGo(x, s)
	}
}

func normMul(l isa, dst, x, w []float32, inv float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_, _ = x[n-1], w[n-1]
	switch l {
	case isaAVX512:
		normMulAVX512(&dst[0], &x[0], &w[0], inv, n)
	case isaAVX2:
		normMulAVX2(&dst[0], &x[0], &w[0], inv, n)
	default:
		normMulGo(dst, x, w, inv)
	}
}

func siluMul(l isa, dst, gate, up []float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_, _ = gate[n-1], up[n-1]
	switch l {
	case isaAVX512:
		siluMulAVX512(&dst[0], &gate[0], &up[0], n)
	case isaAVX2:
		siluMulAVX2(&dst[0], &gate[0], &up[0], n)
	default:
		siluMulGo(dst, gate, up)
	}
}

func rotate(l isa, lo, hi, cos, sin []float32) {
	n := len(lo)
	if n == 0 {
		return
	}
	_, _, _ = hi[n-1], cos[n-1], sin[n-1]
	switch l {
	case isaAVX512:
		rotateAVX512(&lo[0], &hi[0], &cos[0], &sin[0], n)
	case isaAVX2:
		rotateAVX2(&lo[0], &hi[0], &cos[0], &sin[0], n)
	default:
		rotateGo(lo, hi, cos, sin)
	}
}

func addTo(l isa, dst, x []float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_ = x[n-1]
	switch l {
	case isaAVX512:
		addToAVX512(&dst[0], &x[0], n)
	case isaAVX2:
		addToAVX2(&dst[0], &x[0], n)
	default:
		addToGo(dst, x)
	}
}

func addScaled(l isa, dst, x []float32, s float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_ = x[n-1]
	switch l {
	case isaAVX512:
		addScaledAVX512(&dst[0], &x[0], s, n)
	case isaAVX2:
		addScaledAVX2(&dst[0], &x[0], s, n)
	default:
		addScaledGo(dst, x, s)
	}
}

func siluMulBack(l isa, gate, up, grad []float32) {
	n := len(gate)
	if n == 0 {
		return
	}
	_, _ = up[n-1], grad[n-1]
	switch l {
	case isaAVX512:
		siluMulBackAVX512(&gate[0], &up[0], &grad[0], n)
	case isaAVX2:
		siluMulBackAVX2(&gate[0], &up[0], &grad[0], n)
	default:
		siluMulBackGo(gate, up, grad)
	}
}

func dotSum(l isa, x, y []float32, total *lanes) {
	n := len(x)
	if n == 0 {
		return
	}
	_ = y[n-1]
	switch l {
	case isaAVX512:
		dotSumAVX512(&x[0], &y[0], n, (*[16]float64)(total))
	case isaAVX2:
		dotSumAVX2(&x[0], &y[0], n, (*[16]float64)(total))
	default:
		dotSumGo(x, y, total)
	}
}

func mulTo(l isa, dst, x []float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_ = x[n-1]
	switch l {
	case isaAVX512:
		mulToAVX512(&dst[0], &x[0], n)
	case isaAVX2:
		mulToAVX2(&dst[0], &x[0], n)
	default:
		mulToGo(dst, x)
	}
}

func subMul(l isa, dst, x []float32, s float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_ = x[n-1]
	switch l {
	case isaAVX512:
		subMulAVX512(&dst[0], &x[0], s, n)
	case isaAVX2:
		subMulAVX2(&dst[0], &x[0], s, n)
	default:
		subMulGo(dst, x, s)
	}
}
