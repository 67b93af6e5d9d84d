package gptq

import (
	"math"
	"math/rand/v2"
	"testing"

	"afmq/internal/correlated"
	"afmq/pkg/compute"
)

// TestSolve compares Factor.Solve with its definition.
func TestSolve(t *testing.T) {
	pool := compute.NewPool(2)
	defer pool.Close()
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{2, 30, 128, 300} {
		h := correlated.Moment(pool, r, 4*n, n)
		f, err := NewFactor(pool, append([]float32(nil), h...), n, DefaultDamping, 1)
		if err != nil {
			t.Fatal(err)
		}
		const rows = 70
		m := make([]float32, rows*n)
		for i := range m {
			m[i] = float32(r.NormFloat64())
		}
		x := append([]float32(nil), m...)
		f.Solve(pool, x, rows)
		mean := 0.0
		for i := range n {
			mean += float64(h[i*n+i]) / float64(n)
		}
		for i := range n {
			h[i*n+i] += float32(DefaultDamping * (float64(h[i*n+i]) + 0.01*mean))
		}
		got := make([]float32, rows*n)
		pool.MulT(got, x, rows, compute.PackF32(n, n, h))
		for i, v := range got {
			if math.Abs(float64(v-m[i])) > 2e-3 {
				t.Fatalf("n %d: (m·H⁻¹)·H has %v for element %d of m, %v", n, v, i, m[i])
			}
		}
	}
}

func TestFactorRefuses(t *testing.T) {
	pool := compute.NewPool(1)
	defer pool.Close()
	nan := float32(math.NaN())
	for name, h := range map[string][]float32{
		"zero":       {0, 0, 0, 0},
		"not finite": {1, nan, nan, 1},
		"infinite":   {float32(math.Inf(1)), 0, 0, 1},
		"indefinite": {1, 50, 50, 1},
		"too short":  {1},
	} {
		if _, err := NewFactor(pool, h, 2, DefaultDamping, 1); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A slightly indefinite matrix is damped until it can be factored.
	f, err := NewFactor(pool, []float32{1, 1.5, 1.5, 1}, 2, DefaultDamping, 1)
	if err != nil || f.Damping <= DefaultDamping {
		t.Errorf("an indefinite matrix: %v, %+v", err, f)
	}
}
