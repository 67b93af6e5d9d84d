package kernel

import "fmt"

// Constants of the tanh form of GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415):
//
//	gelu(x) = x/2·(1+tanh(u)) = x·σ(2u),  2u = geluSlope·x·(1+geluCubic·x²).
const (
	geluSlope = 1.5957691216057308 // 2·√(2/π)
	geluCubic = 0.044715
)

// GELUMul computes dst[i] = gelu(gate[i])·up[i] with the tanh form of GELU, the gate of GeGLU. The
// lengths are equal. dst may be gate or up. (Shazeer, "GLU Variants Improve Transformer", 2020.)
//
// σ(z) is SiLU(z)/z, and x/z has no pole, so that the exponential is that of [SiLUMul].
func GELUMul(dst, gate, up []float32) {
	if len(dst) != len(gate) || len(up) != len(gate) {
		panic(fmt.Sprintf("kernel: GELUMul: lengths %d, %d, %d", len(dst), len(gate), len(up)))
	}
	var z, rest [256]float32
	for at := 0; at < len(gate); at += len(z) {
		n := min(len(z), len(gate)-at)
		for i, x := range gate[at : at+n] {
			slope := geluSlope * float32(1+float32(geluCubic*float32(x*x)))
			z[i], rest[i] = slope*x, up[at+i]/slope
		}
		SiLUMul(dst[at:at+n], z[:n], rest[:n])
	}
}

// GELUMulBack replaces gate and up by the gradients of [GELUMul] with respect to them, given grad, the
// gradient with respect to its result. The lengths are equal.
func GELUMulBack(gate, up, grad []float32) {
	if len(up) != len(gate) || len(grad) != len(gate) {
		panic(fmt.Sprintf("kernel: GELUMulBack: lengths %d, %d, %d", len(gate), len(up), len(grad)))
	}
	for i, x := range gate {
		square := float32(geluCubic * float32(x*x))
		z := float32(geluSlope*float32(1+square)) * x
		sig := 1 / (1 + exp32(-z))
		// z·σ(z)·(1-σ(z))·(1+3c·x²)/(1+c·x²) is x·dσ/dx.
		slope := sig + float32(float32(float32(z*sig)*float32(1-sig))*float32((1+float32(3*square))/(1+square)))
		gate[i] = float32(grad[i]*up[i]) * slope
		up[i] = float32(sig*x) * grad[i]
	}
}
