package recovery

import (
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

const (
	oversampling = 8 // extra directions of the sketch, which improve the last of the rank
	powerSteps   = 3 // multiplications of the sketch by M·Mᵀ
)

// truncatedSVD returns the k largest singular values of m [rows, cols], row-major, with
// their left vectors u [rows, k] and right vectors v [k, cols], by randomized subspace
// iteration (Halko, Martinsson and Tropp 2011, arXiv:0909.4061, algorithms 4.4 and 5.1).
// The large products run on the pool; the small eigenproblem is gonum's.
func truncatedSVD(pool *compute.Pool, m []float32, rows, cols, k int, rng *rand.Rand) (u []float32, s []float64, v []float32) {
	k = min(k, rows, cols)
	l := min(k+oversampling, rows, cols)
	w := pool.PackF32(rows, cols, m)
	sketch := make([]float32, l*cols)
	for i := range sketch {
		sketch[i] = float32(rng.NormFloat64())
	}
	q, b := make([]float32, l*rows), sketch
	for step := 0; ; step++ {
		pool.MulT(q, b, l, w) // (M·bᵀ)ᵀ
		orthonormalize(q, l, rows)
		pool.Mul(b, q, l, w) // qᵀ·M
		if step == powerSteps {
			break
		}
		orthonormalize(b, l, cols)
	}
	// M ≈ Qᵀ·B with orthonormal rows of Q, so the SVD of the small B is that of M.
	gram := mat.NewSymDense(l, nil)
	for i := range l {
		for j := i; j < l; j++ {
			gram.SetSym(i, j, kernel.Dot(b[i*cols:(i+1)*cols], b[j*cols:(j+1)*cols]))
		}
	}
	var eigen mat.EigenSym
	s, u, v = make([]float64, k), make([]float32, rows*k), make([]float32, k*cols)
	if !eigen.Factorize(gram, true) {
		return u, s, v // not finite: the zero approximation
	}
	values := eigen.Values(nil) // ascending
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	for j := range k {
		c := l - 1 - j
		s[j] = math.Sqrt(max(values[c], 0))
		// Directions of rounding errors have no right vector.
		if s[j] <= 1e-6*math.Sqrt(max(values[l-1], 0)) {
			s[j] = 0
			continue
		}
		left := make([]float32, rows)
		for i := range l {
			e := float32(vectors.At(i, c))
			kernel.AddScaled(left, q[i*rows:(i+1)*rows], e)
			kernel.AddScaled(v[j*cols:(j+1)*cols], b[i*cols:(i+1)*cols], e/float32(s[j]))
		}
		for i, x := range left {
			u[i*k+j] = x
		}
	}
	return u, s, v
}

// orthonormalize makes the rows of a [n, d] orthonormal, by Gram and Schmidt with a
// second pass, in order. A row that depends on those before it becomes zero.
func orthonormalize(a []float32, n, d int) {
	for i := range n {
		row := a[i*d : (i+1)*d]
		before := math.Sqrt(kernel.Dot(row, row))
		for range 2 {
			for j := range i {
				other := a[j*d : (j+1)*d]
				kernel.AddScaled(row, other, -float32(kernel.Dot(row, other)))
			}
		}
		norm := math.Sqrt(kernel.Dot(row, row))
		if norm <= 1e-5*before || norm == 0 {
			clear(row)
			continue
		}
		kernel.Scale(row, float32(1/norm))
	}
}
