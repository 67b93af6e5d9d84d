// Package correlated makes inputs for the tests of error compensation.
package correlated

import (
	"math/rand/v2"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// Moment returns the second moment of n tokens with d correlated inputs, two of which are
// much larger than the rest.
func Moment(pool *compute.Pool, r *rand.Rand, n, d int) []float32 {
	mix := make([]float32, d*d)
	for i := range mix {
		mix[i] = float32(r.NormFloat64())
		if i/d == i%d {
			mix[i] += 3
		}
	}
	for _, c := range []int{1, d / 2} {
		for i := range d {
			mix[c*d+i] *= 20
		}
	}
	z, x := make([]float32, n*d), make([]float32, n*d)
	for i := range z {
		z[i] = float32(r.NormFloat64())
	}
	pool.MulT(x, z, n, compute.PackF32(d, d, mix))
	h := make([]float32, d*d)
	pool.AddGram(h, x, n, d)
	kernel.Symmetrize(h, d)
	return h
}
