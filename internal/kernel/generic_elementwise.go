package kernel

import "math"

// The twins of the element-wise kernels. Lengths are arbitrary. A product that is an operand of a sum
// is converted to its own type, which prevents the compiler from fusing them: the vector kernels fuse
// exactly where fma32 is called here.

// Constants of the exponential: e^x = 2^n·e^r with n = round(x/ln 2), |r| ≤ ln 2/2,
// and e^r = 1 + r + r²·(c2 + c3·r + … + c6·r⁴). The coefficients minimize the
// largest relative error, 4e-9, with the first two terms fixed, so that e^0 is 1.
const (
	expMin   = -104 // e^-104 rounds to zero
	expMax   = 89   // e^89 overflows
	expLog2e = 1.44269504088896341
	expLn2Hi = 0x1.62e43p-1           // ln 2 in float32
	expLn2Lo = -0x1.05c610ca86c39p-29 // ln 2 − expLn2Hi

	expC2 = 0.4999999403953552
	expC3 = 0.1666652113199234
	expC4 = 0.04166838899254799
	expC5 = 0.00836874544620514
	expC6 = 0.0013814540579915047
)

// fma32 is a·b+c with one rounding, except in about one case of 2^29, in which the intermediate
// rounding to float64 changes the result.
func fma32(a, b, c float32) float32 {
	return float32(float64(a)*float64(b) + float64(c))
}

// exp32 is the exponential function of every level. Its error is about one unit in the last place,
// including subnormal results; NaN stays NaN.
func exp32(x float32) float32 {
	if x != x {
		return x
	}
	x = min(max(x, expMin), expMax)
	n := float32(math.RoundToEven(float64(float32(x * expLog2e))))
	r := fma32(n, -expLn2Hi, x)
	r = fma32(n, -expLn2Lo, r)
	q := fma32(expC6, r, expC5)
	q = fma32(q, r, expC4)
	q = fma32(q, r, expC3)
	q = fma32(q, r, expC2)
	e := 1 + fma32(q, float32(r*r), r)
	// Two factors, because 2^n may overflow or underflow where the result does not.
	i := int32(n)
	return e * pow2(i>>1) * pow2(i-i>>1)
}

// pow2 returns 2^n, for n from -126 to 127.
func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

func maxOfGo(x []float32, maxes *[16]float32) {
	for i, v := range x {
		if v > maxes[i&15] {
			maxes[i&15] = v
		}
	}
}

func scaleMaxGo(x []float32, scale float32, maxes *[16]float32) {
	for i := range x {
		x[i] *= scale
	}
	maxOfGo(x, maxes)
}

// expSumGo replaces x by e^(x−sub) and adds it to the lanes.
func expSumGo(x []float32, sub float32, total *lanes) {
	for i, v := range x {
		e := exp32(v - sub)
		x[i] = e
		total[i&15] += float64(e)
	}
}

// sumExpGo adds e^(x−sub) to the lanes and leaves x unchanged.
func sumExpGo(x []float32, sub float32, total *lanes) {
	for i, v := range x {
		total[i&15] += float64(exp32(v - sub))
	}
}

func mulScalarGo(x []float32, s float32) {
	for i := range x {
		x[i] *= s
	}
}

// klSeries is the limit of |d| up to which a term of KL is P·d²·(1/2! − d/3! + … − d⁷/9!); above it
// the term is P·(d−1) + Q.
const klSeries = 0.5

func klSumGo(p, q []float32, c *klParams, total *lanes) {
	for i := range p {
		ep := exp32(p[i] - c.pHi - c.pLo)
		eq := exp32(q[i] - c.qHi - c.qLo)
		d := p[i] - q[i] - c.delta
		term := fma32(ep, d-1, eq)
		if d >= -klSeries && d <= klSeries {
			h := fma32(-1./362880, d, 1./40320)
			h = fma32(h, d, -1./5040)
			h = fma32(h, d, 1./720)
			h = fma32(h, d, -1./120)
			h = fma32(h, d, 1./24)
			h = fma32(h, d, -1./6)
			h = fma32(h, d, 1./2)
			term = float32(ep*float32(d*d)) * h
		}
		if ep == 0 {
			term = eq
		}
		total[i&15] += float64(term)
	}
}

func sumSquaresGo(x []float32, total *lanes) {
	for i, v := range x {
		total[i&15] += float64(float64(v) * float64(v)) // exact as a float64
	}
}

func normMulGo(dst, x, w []float32, inv float32) {
	for i, v := range x {
		dst[i] = w[i] * float32(v*inv)
	}
}

func siluMulGo(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = g / (1 + exp32(-g)) * up[i]
	}
}

func rotateGo(lo, hi, cos, sin []float32) {
	for i, a := range lo {
		b := hi[i]
		lo[i] = float32(a*cos[i]) - float32(b*sin[i])
		hi[i] = float32(b*cos[i]) + float32(a*sin[i])
	}
}

func addToGo(dst, x []float32) {
	for i, v := range x {
		dst[i] += v
	}
}

func addScaledGo(dst, x []float32, s float32) {
	for i, v := range x {
		dst[i] = fma32(v, s, dst[i])
	}
}

// siluMulBackGo is SiLUMulBack.
func siluMulBackGo(gate, up, grad []float32) {
	for i, g := range gate {
		sig := 1 / (1 + exp32(-g))
		slope := float32(float32(1+float32(float32(1-sig)*g)) * sig)
		gate[i] = float32(grad[i]*up[i]) * slope
		up[i] = float32(sig*g) * grad[i]
	}
}

func dotSumGo(x, y []float32, total *lanes) {
	for i, v := range x {
		total[i&15] += float64(float64(v) * float64(y[i])) // exact as a float64
	}
}

func mulToGo(dst, x []float32) {
	for i, v := range x {
		dst[i] *= v
	}
}

func subMulGo(dst, x []float32, s float32) {
	for i, v := range x {
		dst[i] = float32(dst[i]-s) * v
	}
}
