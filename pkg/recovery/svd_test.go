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
	if !pool.Cholesky(h, in) {
		t.Fatal("no root")
	}
	for i := range in {
		clear(h[i*in+i+1 : (i+1)*in])
	}
	spec := infer.TensorSpec{Name: "m.weight", Shape: []int{out, in}, Role: infer.Projection, Kind: "q_proj"}
	model := func(w []float32) *infer.Model {
		m := &infer.Model{Blocks: make([]infer.Block, 1)}
		m.Blocks[0].Q.Weight = kernel.PackF32(out, in, w)
		return m
	}
	z := &initializer{pool: pool, base: model(q), teacher: model(w), opts: &Options{}}
	left := func(r *root) (float64, float64) {
		p := part{spec: spec, rank: rank, scale: 0.5, a: make([]float32, in*rank), b: make([]float32, out*rank)}
		s := &student{parts: []part{p}}
		z.module(0, spec, r, []*student{s})
		// Σ over tokens of ‖(W−Ŵ−scale·B·A)·x‖², as M·L for the oracle.
		e := make([]float32, out*in)
		for i := range out {
			for j := range in {
				e[i*in+j] = w[i*in+j] - q[i*in+j]
				for k := range rank {
					e[i*in+j] -= p.scale * p.b[i*rank+k] * p.a[j*rank+k]
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
		pool.Mul(ml, diff, out, kernel.PackF32(in, in, h))
		_, least := residual(ml, out, in, make([]float32, out*rank), make([]float64, rank), make([]float32, rank*in))
		return kernel.Dot(y, y) / tokens, least
	}
	weighted, least := left(&root{h, in})
	plain, _ := left(nil)
	if weighted > 1.001*least {
		t.Errorf("the weighted init leaves %v, possible is %v", weighted, least)
	}
	if plain < 1.2*weighted {
		t.Errorf("the plain init leaves %v, the weighted %v", plain, weighted)
	}
}
