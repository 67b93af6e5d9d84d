package kernel

// SoftCap replaces x by c·tanh(scale·x/c), which is about scale·x for small values and never exceeds c.
func SoftCap(x []float32, scale, c float32) {
	scale /= c
	for i, v := range x {
		x[i] = c * tanh32(v*scale)
	}
}

// SoftCapBack multiplies grad, a gradient with respect to the result y of [SoftCap], by the derivative
// scale·(1-(y/c)²). The lengths are equal.
func SoftCapBack(grad, y []float32, scale, c float32) {
	sameLength("SoftCapBack", len(grad), len(y))
	for i, v := range y {
		t := v / c
		grad[i] *= scale * float32(float32(1-t)*float32(1+t))
	}
}

// tanh32 is the hyperbolic tangent. Its relative error is below 1e-6: near zero, where a difference
// from 1 would cancel, it is the Taylor series.
func tanh32(x float32) float32 {
	if x < 0 {
		return -tanh32(-x)
	}
	if x < 0.25 {
		s := float32(x * x)
		p := fma32(s, 62./2835, -17./315)
		p = fma32(p, s, 2./15)
		p = fma32(p, s, -1./3)
		return fma32(float32(p*s), x, x)
	}
	t := exp32(-2 * x)
	return (1 - t) / (1 + t)
}
