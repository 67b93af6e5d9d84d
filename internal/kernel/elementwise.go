package kernel

import (
	"fmt"
	"math"
)

// lanes holds the partial sums of a reduction: element i of the data is added to lane i mod 16, at
// every level.
type lanes [16]float64

// sum adds the lanes in a fixed order. It overwrites them.
func (l *lanes) sum() float64 {
	for step := 8; step > 0; step /= 2 {
		for i := range step {
			l[i] += l[i+step]
		}
	}
	return l[0]
}

// vectorLen returns the number of the first of n elements that vector kernels process: a multiple of
// 16. The rest is processed in a padded buffer of 16, or by the Go twin.
func vectorLen(n int) int { return n &^ 15 }

var negInf = float32(math.Inf(-1))

// padded returns x, of at most 16 elements, padded to 16 elements with pad.
func padded(x []float32, pad float32) (buf [16]float32) {
	for i := copy(buf[:], x); i < len(buf); i++ {
		buf[i] = pad
	}
	return buf
}

// RMSNorm computes dst[i] = w[i]·(x[i]/√(mean(x²)+eps)). The lengths are equal. The
// mean is computed in float64; 1/√ is rounded to float32 before the multiplication. dst
// may be x. (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.)
func RMSNorm(dst, x, w []float32, eps float32) {
	if len(dst) != len(x) || len(w) != len(x) {
		panic(fmt.Sprintf("kernel: RMSNorm: lengths %d, %d, %d", len(dst), len(x), len(w)))
	}
	if len(x) == 0 {
		return
	}
	lv, n := currentISA(), vectorLen(len(x))
	var sq lanes
	sumSquares(lv, x[:n], &sq)
	if n < len(x) {
		tail := padded(x[n:], 0)
		sumSquares(lv, tail[:], &sq)
	}
	inv := float32(1 / math.Sqrt(sq.sum()/float64(len(x))+float64(eps)))
	normMul(lv, dst[:n], x[:n], w[:n], inv)
	normMulGo(dst[n:], x[n:], w[n:], inv)
}

// SiLUMul computes dst[i] = silu(gate[i])·up[i] with silu(g) = g/(1+e^−g), the gate of SwiGLU.
// The lengths are equal. dst may be gate or up. (Shazeer, "GLU Variants
// Improve Transformer", 2020.)
func SiLUMul(dst, gate, up []float32) {
	if len(dst) != len(gate) || len(up) != len(gate) {
		panic(fmt.Sprintf("kernel: SiLUMul: lengths %d, %d, %d", len(dst), len(gate), len(up)))
	}
	lv, n := currentISA(), vectorLen(len(gate))
	siluMul(lv, dst[:n], gate[:n], up[:n])
	if n < len(gate) {
		g, u := padded(gate[n:], 0), padded(up[n:], 0)
		siluMul(lv, g[:], g[:], u[:])
		copy(dst[n:], g[:])
	}
}

// Softmax replaces x by softmax(scale·x): e^(scale·x[i]−max) divided by its sum,
// which is computed in float64.
//
// Entries of −Inf become zero and change no bit of the others, so that a row with a masked end
// gives the bits of the shorter row. If every entry is −Inf, or any is NaN or +Inf (after scaling),
// every result is NaN, because the distribution is undefined.
func Softmax(x []float32, scale float32) {
	if len(x) == 0 {
		return
	}
	lv, n := currentISA(), vectorLen(len(x))
	var tail [16]float32
	var maxes [16]float32
	for i := range maxes {
		maxes[i] = negInf
	}
	scaleMax(lv, x[:n], scale, &maxes)
	if n < len(x) {
		// Pad after scaling, because −Inf·scale may differ from −Inf.
		for i, v := range x[n:] {
			tail[i] = v * scale
		}
		tail = padded(tail[:len(x)-n], negInf)
		maxOf(lv, tail[:], &maxes)
	}
	top := maxes[0]
	for _, v := range maxes[1:] {
		top = max(top, v)
	}
	var total lanes
	expSum(lv, x[:n], top, &total)
	if n < len(x) {
		expSum(lv, tail[:], top, &total)
		copy(x[n:], tail[:])
	}
	inv := float32(1 / total.sum())
	mulScalar(lv, x[:n], inv)
	mulScalarGo(x[n:], inv)
}

// LogSumExp returns log Σ e^x[i]. Terms relative to the largest are computed in float32 and summed
// in float64. The relative error of the sum, which is the absolute error of the result, is below
// 1e-6 and typically below 1e-8.
//
// The result is −Inf if x is empty or all elements are −Inf, and NaN if any element is NaN or +Inf.
func LogSumExp(x []float32) float64 {
	lv, n := currentISA(), vectorLen(len(x))
	var maxes [16]float32
	for i := range maxes {
		maxes[i] = negInf
	}
	tail := padded(x[n:], negInf)
	maxOf(lv, x[:n], &maxes)
	maxOf(lv, tail[:], &maxes)
	top := maxes[0]
	for _, v := range maxes[1:] {
		top = max(top, v)
	}
	if top == negInf { // comparisons ignore NaN
		for _, v := range x {
			if v != v {
				return math.NaN()
			}
		}
		return math.Inf(-1)
	}
	var total lanes
	sumExp(lv, x[:n], top, &total)
	if n < len(x) {
		sumExp(lv, tail[:], top, &total)
	}
	return float64(top) + math.Log(total.sum())
}

// klParams holds the parameters common to the terms of KL. A log-sum-exp is split into two float32,
// because one has too few digits.
type klParams struct {
	pHi, pLo float32 // log-sum-exp of p
	qHi, qLo float32 // log-sum-exp of q
	delta    float32 // their difference
}

// KL returns the Kullback-Leibler divergence in nats of softmax(q) from softmax(p)
// over logits p and q of equal length: Σ P·log(P/Q) with P = e^(p−lseP), Q = e^(q−lseQ).
// lseP and lseQ are their LogSumExp.
//
// The terms summed are P·log(P/Q) − P + Q. The value is the same, because P and Q each sum to one,
// and no term is negative. Where P and Q are close, the term is evaluated as
// P·(d²/2 − d³/6 + …) with d = log(P/Q), which avoids cancellation; an error in lseP or lseQ then
// has a second-order effect only. The relative error is about 1e-6.
//
// An entry with P = 0 contributes Q. An entry with P > 0 whose logit in q is −Inf makes the result
// +Inf. NaN in an entry with P ≠ 0, or in lseP, gives NaN.
func KL(p, q []float32, lseP, lseQ float64) float64 {
	sameLength("KL", len(p), len(q))
	lv, n := currentISA(), vectorLen(len(p))
	c := klParams{pHi: float32(lseP), qHi: float32(lseQ), delta: float32(lseP - lseQ)}
	c.pLo, c.qLo = float32(lseP-float64(c.pHi)), float32(lseQ-float64(c.qHi))
	var total lanes
	klSum(lv, p[:n], q[:n], &c, &total)
	if n < len(p) {
		tp, tq := padded(p[n:], negInf), padded(q[n:], negInf)
		klSum(lv, tp[:], tq[:], &c, &total)
	}
	return total.sum()
}

// Rope rotates the pairs (x[i], x[i+d/2]) of one head of d elements by angles given as d/2 cosines
// and d/2 sines: the "rotate half" form of rotary position embedding. (Su et al., "RoFormer", 2021.)
// All levels give the same bits.
func Rope(x []float32, cos, sin []float32) {
	half := len(cos)
	if len(sin) != half || len(x) != 2*half {
		panic(fmt.Sprintf("kernel: Rope: %d elements with %d cosines and %d sines", len(x), len(cos), len(sin)))
	}
	n := vectorLen(half)
	lo, hi := x[:half], x[half:]
	rotate(currentISA(), lo[:n], hi[:n], cos[:n], sin[:n])
	rotateGo(lo[n:], hi[n:], cos[n:], sin[n:])
}

// Add computes dst[i] += x[i]. The lengths are equal.
func Add(dst, x []float32) {
	sameLength("Add", len(dst), len(x))
	n := vectorLen(len(x))
	addTo(currentISA(), dst[:n], x[:n])
	addToGo(dst[n:], x[n:])
}
