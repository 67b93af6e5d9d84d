package recovery

import (
	"fmt"
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// choleskyFactor is the lower triangular L [n, n] with L·Lᵀ = E[x·xᵀ] + damping, for a
// vector x of n values. It whitens x: L⁻¹·x has the identity as its second moments. Where
// only the diagonal of the moments was kept, L is diagonal.
type choleskyFactor struct {
	n               int
	matrix, inverse *compute.Matrix // L and L⁻¹; nil where L is diagonal
	diagonal        []float32       // of L, [n]; nil otherwise
}

// factor returns the Cholesky factor of the mean second moments, damped. It overwrites the
// sums. With unit the moments are first divided by the mean of their diagonal. The factor of
// zero moments is the identity.
func (m *moments) factor(pool *compute.Pool, unit bool) (*choleskyFactor, error) {
	mean := m.meanDiagonal()
	if math.IsNaN(mean) || math.IsInf(mean, 0) {
		return nil, fmt.Errorf("the second moments have a mean of %v and no Cholesky factor", mean)
	}
	if mean == 0 {
		return identityFactor(m.n), nil
	}
	scale := 1 / float64(m.tokens)
	if unit {
		scale = 1 / mean
	}
	mean *= scale
	if m.whole == nil {
		for i := range m.n {
			m.diagonal[i] = float32(math.Sqrt(float64(m.diagonal[i])*scale + momentDamping*mean))
		}
		return &choleskyFactor{n: m.n, diagonal: m.diagonal}, nil
	}
	kernel.Symmetrize(m.whole, m.n)
	kernel.Scale(m.whole, float32(scale))
	l, err := dampedCholesky(pool, m.whole, m.n, mean)
	if err != nil {
		return nil, err
	}
	inverse := m.whole
	invertLower(pool, inverse, l, m.n)
	return &choleskyFactor{n: m.n, matrix: pool.PackF32(m.n, m.n, l), inverse: pool.PackF32(m.n, m.n, inverse)}, nil
}

func identityFactor(n int) *choleskyFactor {
	f := &choleskyFactor{n: n, diagonal: make([]float32, n)}
	for i := range n {
		f.diagonal[i] = 1
	}
	return f
}

// dampedCholesky returns L [n, n] with L·Lᵀ = a + damping·mean·I. Damping starts at
// momentDamping and grows tenfold until the matrix is positive definite in float32.
func dampedCholesky(pool *compute.Pool, a []float32, n int, mean float64) ([]float32, error) {
	l := make([]float32, n*n)
	for damping := momentDamping; ; damping *= 10 {
		copy(l, a)
		for i := range n {
			l[i*n+i] += float32(damping * mean)
		}
		if pool.Cholesky(l, n) {
			break
		}
		if damping > 1e3 {
			return nil, fmt.Errorf("the second moments have a mean of %v and no Cholesky factor", mean)
		}
	}
	for i := range n {
		clear(l[i*n+i+1 : (i+1)*n])
	}
	return l, nil
}

// invertLower sets inverse to the inverse of the lower triangular l, both [n, n].
func invertLower(pool *compute.Pool, inverse, l []float32, n int) {
	clear(inverse)
	pool.Run(n, func(_, i int) {
		row := inverse[i*n : (i+1)*n]
		row[i] = 1
		for j := i; j >= 0; j-- { // solves row·L = eᵢ by back substitution
			row[j] /= l[j*n+j]
			kernel.AddScaled(row[:j], l[j*n:j*n+j], -row[j])
		}
	})
}

// dropMatrix frees L and keeps L⁻¹, the only one that training needs.
func (f *choleskyFactor) dropMatrix() { f.matrix = nil }

// times computes y = x·L for the rows of x [m, n].
func (f *choleskyFactor) times(pool *compute.Pool, y, x []float32, m int) {
	if f.diagonal == nil {
		pool.Mul(y, x, m, f.matrix)
		return
	}
	for i := range m * f.n {
		y[i] = x[i] * f.diagonal[i%f.n]
	}
}

// timesInverse computes y = x·L⁻¹ for the rows of x [m, n].
func (f *choleskyFactor) timesInverse(pool *compute.Pool, y, x []float32, m int) {
	if f.diagonal == nil {
		pool.Mul(y, x, m, f.inverse)
		return
	}
	for i := range m * f.n {
		y[i] = x[i] / f.diagonal[i%f.n]
	}
}

// timesInverseT computes y = x·L⁻ᵀ for the rows of x [m, n].
func (f *choleskyFactor) timesInverseT(pool *compute.Pool, y, x []float32, m int) {
	if f.diagonal == nil {
		pool.MulT(y, x, m, f.inverse)
		return
	}
	f.timesInverse(pool, y, x, m)
}
