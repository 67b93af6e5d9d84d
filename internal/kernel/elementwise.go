package kernel

import (
	"fmt"
	"math"
)

// lanes is the partial sums of a reduction: element i of the data belongs to
// lane i mod 16 at every level.
type lanes [16]float64

// sum combines the lanes in the one fixed order.
func (l *lanes) sum() float64 {
	for step := 8; step > 0; step /= 2 {
		for i := range step {
			l[i] += l[i+step]
		}
	}
	return l[0]
}

// whole is the part of n elements that vector kernels take; the rest goes
// through a padded buffer of 16.
func vectorLen(n int) int { return n &^ 15 }

var negInf = float32(math.Inf(-1))

// padded returns the last, incomplete 16 elements of x, filled up with pad.
func padded(x []float32, pad float32) (buf [16]float32) {
	for i := copy(buf[:], x); i < len(buf); i++ {
		buf[i] = pad
	}
	return buf
}

// RMSNorm computes dst[i] = w[i]·(x[i]/√(mean(x²)+eps)), all of one length. The
// mean is taken in float64; 1/√ is rounded to float32 before it multiplies. dst
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

// SiLUMul computes dst[i] = silu(gate[i])·up[i] with silu(g) = g/(1+e^−g), all of
// one length: the gate of SwiGLU. dst may be gate or up. (Shazeer, "GLU Variants
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
// which is taken in float64.
//
// Entries of −Inf become zero and change no bit of the others, so a masked row
// equals the shorter row without its masked end. If every entry is −Inf, or any
// is NaN or +Inf (after scaling), the whole result is NaN: there is no
// distribution to return.
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
		// The padding is made after scaling: −Inf·scale need not be −Inf.
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

// LogSumExp returns log Σ e^x[i]. Terms are taken relative to the largest one, in
// float32, and summed in float64: the relative error of the sum, which is the
// absolute error of the result, is below 1e-6 and typically below 1e-8.
//
// It is −Inf for no elements or only −Inf, and NaN if any element is NaN or +Inf.
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
	if top == negInf { // the comparisons have skipped any NaN
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

// klParams is what the terms of KL share. A float64 normalizer is kept in two
// float32 parts, as weights need more of its digits than one holds.
type klParams struct {
	pHi, pLo float32 // log-sum-exp of p
	qHi, qLo float32 // log-sum-exp of q
	delta    float32 // their difference
}

// KL returns the Kullback-Leibler divergence in nats of softmax(q) from softmax(p)
// over logits of one length: Σ P·log(P/Q) with P = e^(p−lseP), Q = e^(q−lseQ).
// lseP and lseQ are their LogSumExp.
//
// It sums P·log(P/Q) − P + Q instead, which has the same value as P and Q each sum
// to one, and no negative term. Where P and Q nearly agree that term is
// P·(d²/2 − d³/6 + …) with d = log(P/Q): nothing cancels, and an error in lseP or
// lseQ changes the result in second order only. The relative error is about 1e-6.
//
// An entry whose P is zero contributes Q; one with P > 0 and Q = 0 by a logit of
// −Inf makes the result +Inf. NaN in an entry with P ≠ 0, or in lseP, gives NaN.
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

// Rope turns pairs (x[i], x[i+d/2]) of one head of d elements by the angles whose
// cosines and sines are given, d/2 of each: the "rotate half" form of rotary
// position embedding. (Su et al., "RoFormer", 2021.) All levels give the same bits.
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

// Add computes dst[i] += x[i], of equal lengths.
func Add(dst, x []float32) {
	sameLength("Add", len(dst), len(x))
	n := vectorLen(len(x))
	addTo(currentISA(), dst[:n], x[:n])
	addToGo(dst[n:], x[n:])
}
