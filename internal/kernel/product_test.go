package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestQuick(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	r := rand.New(rand.NewPCG(1, 2))
	m, n, k := 17, 37, 300
	x, w, y := make([]float32, m*k), make([]float32, n*k), make([]float32, m*n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for i := range w {
		w[i] = float32(r.NormFloat64())
	}
	p.MulT(y, x, m, PackF32(n, k, w))
	for i := range m {
		for j := range n {
			var s float64
			for c := range k {
				s += float64(x[i*k+c]) * float64(w[j*k+c])
			}
			if math.Abs(s-float64(y[i*n+j])) > 1e-4 {
				t.Fatal(i, j, s, y[i*n+j])
			}
		}
	}
}
