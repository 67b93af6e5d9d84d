package recovery

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"afmq/internal/kernel"
	"afmq/pkg/infer"
)

func normals(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

// residual returns ‖M − U·S·V‖² and the least that any rank k leaves, by gonum.
func residual(m []float32, rows, cols int, u []float32, s []float64, v []float32) (got, least float64) {
	d := mat.NewDense(rows, cols, nil)
	for i := range rows {
		for j := range cols {
			d.Set(i, j, float64(m[i*cols+j]))
		}
	}
	var svd mat.SVD
	if !svd.Factorize(d, mat.SVDNone) {
		panic("svd")
	}
	k := len(s)
	for _, x := range svd.Values(nil)[k:] {
		least += x * x
	}
	for i := range rows {
		for j := range cols {
			e := d.At(i, j)
			for r := range k {
				e -= float64(u[i*k+r]) * s[r] * float64(v[r*cols+j])
			}
			got += e * e
		}
	}
	return got, least
}

// TestTruncatedSVD holds what the approximation leaves to the least possible: over a
// spectrum that falls, and over noise, where directions are hard to tell apart.
func TestTruncatedSVD(t *testing.T) {
	pool := newPool(t, 2)
	for _, c := range []struct {
		rows, cols, k int
		fall          float64
		slack         float64
	}{
		{40, 70, 5, 0.8, 1.001}, {70, 40, 16, 0.9, 1.001}, {120, 100, 8, 1, 1.02}, {16, 33, 16, 1, 1.001}, {9, 5, 3, 0.5, 1.001}, {1, 20, 1, 1, 1.001},
	} {
		rng := rand.New(rand.NewPCG(1, uint64(c.rows)))
		m := normals(rng, c.rows*c.cols)
		for i := range m {
			m[i] *= float32(math.Pow(c.fall, float64(i%c.cols)))
		}
		u, s, v := truncatedSVD(pool, m, c.rows, c.cols, c.k, rng)
		got, least := residual(m, c.rows, c.cols, u, s, v)
		if floor := 1e-9 * kernel.Dot(m, m); got > least*c.slack+floor {
			t.Errorf("%+v: leaves %v, possible is %v", c, got, least)
		}
	}
	// A matrix of lower rank than asked for.
	a, b := normals(rand.New(rand.NewPCG(3, 3)), 30), normals(rand.New(rand.NewPCG(4, 4)), 20)
	m := make([]float32, 600)
	for i := range a {
		for j := range b {
			m[i*20+j] = a[i] * b[j]
		}
	}
	u, s, v := truncatedSVD(pool, m, 30, 20, 4, rand.New(rand.NewPCG(5, 5)))
	if got, _ := residual(m, 30, 20, u, s, v); got > 1e-8*kernel.Dot(m, m) || s[1] > 1e-4*s[0] {
		t.Errorf("rank one: leaves %v with singular values %v", got, s)
	}
	if _, s, _ := truncatedSVD(pool, make([]float32, 600), 30, 20, 4, rand.New(rand.NewPCG(5, 5))); s[0] != 0 {
		t.Errorf("zero: singular values %v", s)
	}
}

// TestInitIsTheBestApproximation holds the weighted init of a module to what gonum finds
// possible for the error at its output, and checks that the plain one leaves more.
func TestInitIsTheBestApproximation(t *testing.T) {
	pool := newPool(t, 2)
	const out, in, rank, tokens = 24, 40, 4, 200
	rng := rand.New(rand.NewPCG(8, 8))
	w, q := normals(rng, out*in), normals(rng, out*in)
	x := normals(rng, tokens*in)
	for i := range x {
		x[i] *= float32(1 + 10*math.Exp(-float64(i%in)/4)) // some inputs are large
		if i%in > 0 {
			x[i] += 0.5 * x[i-1] // and they hang together
		}
	}
	h := make([]float32, in*in)
	pool.AddGram(h, x, tokens, in)
	kernel.Symmetrize(h, in)
	kernel.Scale(h, 1.0/tokens)
	moments := append([]float32(nil), h...)
	r, err := newRoot(pool, h, in)
	if err != nil {
		t.Fatal(err)
	}
	checkRoot(t, pool, r, moments)
	spec := infer.TensorSpec{Name: "m.weight", Shape: []int{out, in}, Role: infer.Projection, Kind: "q_proj"}
	model := func(w []float32) *infer.Model {
		m := &infer.Model{Blocks: make([]infer.Block, 1)}
		m.Blocks[0].Q.Weight = kernel.PackF32(out, in, w)
		return m
	}
	z := &initializer{pool: pool, base: model(q), teacher: model(w), opts: &Options{}}
	left := func(use *root) (float64, float64) {
		p := part{spec: spec, name: "m", rank: rank, scale: 0.5, a: make([]float32, in*rank), b: make([]float32, out*rank)}
		s := &student{parts: []part{p}}
		z.students = []*student{s}
		z.approximate(0, use)
		if use != nil {
			s.parts[0].inverse = use.inverse
		}
		a := s.values(pool, append(append([]float32(nil), p.a...), p.b...))["m"].A
		// Σ over tokens of ‖(W−Ŵ−scale·B·A)·x‖², as M·L for the oracle.
		e := make([]float32, out*in)
		for i := range out {
			for j := range in {
				e[i*in+j] = w[i*in+j] - q[i*in+j]
				for k := range rank {
					e[i*in+j] -= p.scale * p.b[i*rank+k] * a[k*in+j]
				}
			}
		}
		y := make([]float32, tokens*out)
		pool.MulT(y, x, tokens, kernel.PackF32(out, in, e))
		diff := make([]float32, out*in)
		for i := range diff {
			diff[i] = w[i] - q[i]
		}
		ml := make([]float32, out*in)
		pool.Mul(ml, diff, out, r.packed)
		_, least := residual(ml, out, in, make([]float32, out*rank), make([]float64, rank), make([]float32, rank*in))
		return kernel.Dot(y, y) / tokens, least
	}
	weighted, least := left(r)
	plain, _ := left(nil)
	if weighted > 1.001*least {
		t.Errorf("the weighted init leaves %v, possible is %v", weighted, least)
	}
	if plain < 1.2*weighted {
		t.Errorf("the plain init leaves %v, the weighted %v", plain, weighted)
	}
}

// checkRoot holds L·Lᵀ to the damped second moments and L⁻¹·L to the identity.
func checkRoot(t *testing.T, pool *kernel.Pool, r *root, moments []float32) {
	t.Helper()
	n := r.n
	square, identity := make([]float32, n*n), make([]float32, n*n)
	pool.MulT(square, r.l, n, r.packed)
	inverse, mean := make([]float32, n*n), float32(0)
	for i := range n {
		r.inverse.Row(inverse[i*n:(i+1)*n], i)
		mean += moments[i*n+i] / float32(n)
	}
	pool.Mul(identity, inverse, n, r.packed)
	for i := range n {
		for j := range n {
			want, one := moments[i*n+j], float32(0)
			if i == j {
				want, one = want+rootDamping*mean, 1
			}
			if d := square[i*n+j] - want; d*d > 1e-8*mean*mean {
				t.Fatalf("(L·Lᵀ)[%d, %d] is %v, want %v", i, j, square[i*n+j], want)
			}
			if d := identity[i*n+j] - one; d*d > 1e-6 {
				t.Fatalf("(L⁻¹·L)[%d, %d] is %v", i, j, identity[i*n+j])
			}
		}
	}
}
