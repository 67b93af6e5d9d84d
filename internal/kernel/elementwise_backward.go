package kernel

import (
	"fmt"
	"math"
)

// The element-wise operations of the backward pass.

// AddScaled computes dst[i] += s·x[i] with one rounding. The lengths are equal.
func AddScaled(dst, x []float32, s float32) {
	sameLength("AddScaled", len(dst), len(x))
	n := vectorLen(len(x))
	addScaled(currentISA(), dst[:n], x[:n], s)
	addScaledGo(dst[n:], x[n:], s)
}

// Scale computes x[i] *= s.
func Scale(x []float32, s float32) {
	if s == 1 {
		return
	}
	n := vectorLen(len(x))
	mulScalar(currentISA(), x[:n], s)
	mulScalarGo(x[n:], s)
}

// Dot returns Σ x[i]·y[i], summed in float64. The lengths are equal.
func Dot(x, y []float32) float64 {
	sameLength("Dot", len(x), len(y))
	n := vectorLen(len(x))
	var total lanes
	dotSum(currentISA(), x[:n], y[:n], &total)
	dotSumGo(x[n:], y[n:], &total)
	return total.sum()
}

// mulBy multiplies dst by the first elements of x, element by element.
func mulBy(lv isa, dst, x []float32) {
	x = x[:len(dst)]
	n := vectorLen(len(dst))
	mulTo(lv, dst[:n], x[:n])
	mulToGo(dst[n:], x[n:])
}

// RMSNormBack adds to dst the gradient with respect to x of [RMSNorm] with weights w, given grad, the
// gradient with respect to its result:
//
//	dst[i] += r·w[i]·grad[i] - x[i]·r³/n·Σ w[j]·grad[j]·x[j],  r = 1/√(mean(x²)+eps).
//
// grad is overwritten. dst must not overlap the other slices.
func RMSNormBack(dst, grad, x, w []float32, eps float32) {
	if len(dst) != len(x) || len(w) != len(x) || len(grad) != len(x) {
		panic(fmt.Sprintf("kernel: RMSNormBack: lengths %d, %d, %d, %d", len(dst), len(grad), len(x), len(w)))
	}
	if len(x) == 0 {
		return
	}
	mulBy(currentISA(), grad, w)
	r := 1 / math.Sqrt(Dot(x, x)/float64(len(x))+float64(eps))
	along := Dot(grad, x) * r * r * r / float64(len(x))
	AddScaled(dst, grad, float32(r))
	AddScaled(dst, x, float32(-along))
}

// SiLUMulBack replaces gate and up by the gradients of [SiLUMul] with respect to them, given grad, the
// gradient with respect to its result. The lengths are equal.
func SiLUMulBack(gate, up, grad []float32) {
	if len(up) != len(gate) || len(grad) != len(gate) {
		panic(fmt.Sprintf("kernel: SiLUMulBack: lengths %d, %d, %d", len(gate), len(up), len(grad)))
	}
	lv, n := currentISA(), vectorLen(len(gate))
	siluMulBack(lv, gate[:n], up[:n], grad[:n])
	if n < len(gate) {
		g, u, d := padded(gate[n:], 0), padded(up[n:], 0), padded(grad[n:], 0)
		siluMulBack(lv, g[:], u[:], d[:])
		copy(gate[n:], g[:])
		copy(up[n:], u[:])
	}
}

// SoftmaxBack replaces grad, the gradient with respect to the result p of [Softmax] with the given
// scale, by scale·p[i]·(grad[i] - Σ p[j]·grad[j]), the gradient with respect to its argument. The
// lengths are equal.
func SoftmaxBack(grad, p []float32, scale float32) {
	sameLength("SoftmaxBack", len(grad), len(p))
	lv, n := currentISA(), vectorLen(len(p))
	mean := float32(Dot(grad, p))
	subMul(lv, grad[:n], p[:n], mean)
	subMulGo(grad[n:], p[n:], mean)
	mulScalar(lv, grad[:n], scale)
	mulScalarGo(grad[n:], scale)
}

// RopeBack rotates a gradient by the negated angles of [Rope]: the transpose of a rotation is its
// inverse.
func RopeBack(x []float32, cos, sin []float32) {
	half := len(cos)
	if len(sin) != half || len(x) != 2*half {
		panic(fmt.Sprintf("kernel: RopeBack: %d elements with %d cosines and %d sines", len(x), len(cos), len(sin)))
	}
	n := vectorLen(half)
	lo, hi := x[:half], x[half:]
	rotate(currentISA(), hi[:n], lo[:n], cos[:n], sin[:n])
	rotateGo(hi[n:], lo[n:], cos[n:], sin[n:])
}
