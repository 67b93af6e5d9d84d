package recovery

import (
	"fmt"
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

const (
	// rootDamping is the share of the mean that is added to the diagonal of second
	// moments: directions that the text hardly shows count a little.
	rootDamping = 0.01
	// widestRoot is the widest vector whose second moments are kept whole; of a wider one
	// only the diagonal is.
	widestRoot = 4096
)

// moments sums the second moments of vectors.
type moments struct {
	n, tokens int
	whole     []float32 // [n, n], of which the upper triangle counts; nil for the diagonal alone
	diagonal  []float32 // [n], where whole is nil
}

func newMoments(n int, whole bool) *moments {
	if whole {
		return &moments{n: n, whole: make([]float32, n*n)}
	}
	return &moments{n: n, diagonal: make([]float32, n)}
}

// add adds the rows of x [tokens, n].
func (m *moments) add(pool *compute.Pool, x []float32, tokens int) {
	m.tokens += tokens
	if m.whole != nil {
		pool.AddGram(m.whole, x, tokens, m.n)
		return
	}
	for t := range tokens {
		for i, v := range x[t*m.n : (t+1)*m.n] {
			m.diagonal[i] += float32(v * v)
		}
	}
}

// root is a lower triangular L [n, n] with L·Lᵀ the second moments, damped, of a vector x:
// L⁻¹·x is white. It may be diagonal.
type root struct {
	n               int
	matrix, inverse *compute.Matrix // L and L⁻¹; nil where L is diagonal
	diagonal        []float32       // of L, there
}

// root returns the root of the mean of what was added, which is used up; with unit, of
// that over the mean of its diagonal. Where all was zero it is the identity.
func (m *moments) root(pool *compute.Pool, unit bool) (*root, error) {
	n, mean := m.n, 0.0
	at := func(i int) *float32 {
		if m.whole != nil {
			return &m.whole[i*n+i]
		}
		return &m.diagonal[i]
	}
	for i := range n {
		mean += float64(*at(i)) / float64(n)
	}
	if math.IsNaN(mean) || math.IsInf(mean, 0) {
		return nil, fmt.Errorf("second moments of %v have no root", mean)
	}
	if mean == 0 {
		r := &root{n: n, diagonal: make([]float32, n)}
		for i := range n {
			r.diagonal[i] = 1
		}
		return r, nil
	}
	scale := 1 / float64(m.tokens)
	if unit {
		scale = 1 / mean
	}
	mean *= scale
	if m.whole == nil {
		for i := range n {
			m.diagonal[i] = float32(math.Sqrt(float64(m.diagonal[i])*scale + rootDamping*mean))
		}
		return &root{n: n, diagonal: m.diagonal}, nil
	}
	kernel.Symmetrize(m.whole, n)
	kernel.Scale(m.whole, float32(scale))
	l := make([]float32, n*n)
	for damping := rootDamping; ; damping *= 10 {
		copy(l, m.whole)
		for i := range n {
			l[i*n+i] += float32(damping * mean)
		}
		if pool.Cholesky(l, n) {
			break
		}
		if damping > 1e3 {
			return nil, fmt.Errorf("second moments of %v have no root", mean)
		}
	}
	for i := range n {
		clear(l[i*n+i+1 : (i+1)*n])
	}
	inverse := m.whole
	clear(inverse)
	pool.Run(n, func(_, i int) {
		row := inverse[i*n : (i+1)*n]
		row[i] = 1
		for j := i; j >= 0; j-- { // row·L = e_i, from the last column on
			row[j] /= l[j*n+j]
			kernel.AddScaled(row[:j], l[j*n:j*n+j], -row[j])
		}
	})
	return &root{n: n, matrix: pool.PackF32(n, n, l), inverse: pool.PackF32(n, n, inverse)}, nil
}

// forget gives up L; its inverse stays.
func (r *root) forget() { r.matrix = nil }

// times computes y = x·L for rows of x [m, n].
func (r *root) times(pool *compute.Pool, y, x []float32, m int) {
	if r.diagonal == nil {
		pool.Mul(y, x, m, r.matrix)
		return
	}
	for i := range m * r.n {
		y[i] = x[i] * r.diagonal[i%r.n]
	}
}

// timesInverse computes y = x·L⁻¹.
func (r *root) timesInverse(pool *compute.Pool, y, x []float32, m int) {
	if r.diagonal == nil {
		pool.Mul(y, x, m, r.inverse)
		return
	}
	for i := range m * r.n {
		y[i] = x[i] / r.diagonal[i%r.n]
	}
}

// timesInverseT computes y = x·L⁻ᵀ.
func (r *root) timesInverseT(pool *compute.Pool, y, x []float32, m int) {
	if r.diagonal == nil {
		pool.MulT(y, x, m, r.inverse)
		return
	}
	r.timesInverse(pool, y, x, m)
}
