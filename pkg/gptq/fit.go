package gptq

import "afmq/internal/kernel"

// FitSteps is the number of conjugate gradient steps of a fit. It solves a system of four
// parameters exactly, and that of a larger group approximately.
const FitSteps = 4

// fitting holds the vectors of the conjugate gradients, which have the parameters of every group
// of a chunk.
type fitting struct {
	size       int // parameters of one group
	residual   []float64
	direction  []float64
	scaling    []float64 // diagonal preconditioner
	product    []float64
	change     []float64 // the accumulated step
	rho        []float64 // per group
	move, hess []float32 // [rows, n] the change of Ŵ along the direction, and its product with H
	weighted   []float32 // [rows, n] a product with H, times the weights of the rows
}

// fit fits the parameters to the present codes. It is one Gauss-Newton step: the normal equations
// of each group are solved by preconditioned conjugate gradients, and all groups share the
// products with the Hessian. grad must be up to date. fit updates errs.
func (s *Refiner) fit() {
	t := &s.fitting
	t.size = s.codes.Parameters()
	groups, n := s.codes.Groups(), s.f.n
	for _, v := range []*[]float64{&t.residual, &t.direction, &t.scaling, &t.product, &t.change} {
		*v = grow(*v, groups*t.size)
	}
	t.rho = grow(t.rho, groups)
	t.move, t.hess = grow(t.move, s.rows*n), grow(t.hess, s.rows*n)
	clear(t.change)
	s.codes.Gather(t.residual, s.scaled(s.grad))
	s.codes.Curvature(t.scaling, s.f.hDiag, s.scale)
	for i, v := range t.scaling {
		if v > 0 {
			t.scaling[i] = 1 / v // 0 for a parameter that no weight uses
		}
		t.direction[i] = t.residual[i] * t.scaling[i]
	}
	for g := range groups {
		t.rho[g] = t.dot(t.residual, t.direction, g)
	}
	for step := range FitSteps {
		s.codes.Spread(t.move, t.direction)
		s.mul.MulTPart(s.rows, t.move, n, s.f.hessian, 0, n, 0, n, t.hess, n, false)
		s.codes.Gather(t.product, s.scaled(t.hess))
		for g := range groups {
			t.step(g, step == FitSteps-1)
		}
	}
	for g := range groups {
		s.codes.Move(g, t.change[g*t.size:(g+1)*t.size])
	}
	s.codes.Errors(s.errs, s.weights)
}

// scaled returns v [rows, n] times the weights of its rows.
func (s *Refiner) scaled(v []float32) []float32 {
	if s.scale == nil {
		return v
	}
	t, n := &s.fitting, s.f.n
	t.weighted = grow(t.weighted, s.rows*n)
	clear(t.weighted)
	for r, w := range s.scale {
		kernel.AddScaled(t.weighted[r*n:(r+1)*n], v[r*n:(r+1)*n], w)
	}
	return t.weighted[:s.rows*n]
}

// step advances the solution of one group along its direction.
func (t *fitting) step(g int, last bool) {
	curvature := t.dot(t.direction, t.product, g)
	if !(curvature > 0) || !(t.rho[g] > 0) {
		t.rho[g] = 0
		return
	}
	alpha := t.rho[g] / curvature
	lo, hi := g*t.size, (g+1)*t.size
	for i := lo; i < hi; i++ {
		t.change[i] += alpha * t.direction[i]
		t.residual[i] -= alpha * t.product[i]
	}
	if last {
		return
	}
	before, after := t.rho[g], 0.0
	for i := lo; i < hi; i++ {
		after += t.residual[i] * t.residual[i] * t.scaling[i]
	}
	for i := lo; i < hi; i++ {
		t.direction[i] = t.residual[i]*t.scaling[i] + after/before*t.direction[i]
	}
	t.rho[g] = after
}

// dot returns the scalar product of the parts of two vectors that belong to group g.
func (t *fitting) dot(a, b []float64, g int) float64 {
	sum := 0.0
	for i := g * t.size; i < (g+1)*t.size; i++ {
		sum += a[i] * b[i]
	}
	return sum
}
