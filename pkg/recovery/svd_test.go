package recovery

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/model"
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

// spread returns vectors [tokens, n] some of whose numbers are large and that hang together.
func spread(rng *rand.Rand, tokens, n int) []float32 {
	x := normals(rng, tokens*n)
	for i := range x {
		x[i] *= float32(1 + 10*math.Exp(-float64(i%n)/4))
		if i%n > 0 {
			x[i] += 0.5 * x[i-1]
		}
	}
	return x
}

func dense(v []float32, rows, cols int) *mat.Dense {
	m := mat.NewDense(rows, cols, nil)
	for i, x := range v {
		m.Set(i/cols, i%cols, float64(x))
	}
	return m
}

// lower returns L of a factor.
func lower(f *choleskyFactor) *mat.Dense {
	l := mat.NewDense(f.n, f.n, nil)
	row := make([]float32, f.n)
	for i := range f.n {
		if f.diagonal != nil {
			l.Set(i, i, float64(f.diagonal[i]))
			continue
		}
		f.matrix.Row(row, i)
		for j, x := range row {
			l.Set(i, j, float64(x))
		}
	}
	return l
}

// TestInitIsTheBestApproximation holds the weighted init of a module to what gonum finds
// possible, and checks that the plain one leaves more.
func TestInitIsTheBestApproximation(t *testing.T) {
	pool := newPool(t, 2)
	const out, in, rank, tokens = 24, 40, 4, 200
	rng := rand.New(rand.NewPCG(8, 8))
	w, q := normals(rng, out*in), normals(rng, out*in)
	spec := model.TensorSpec{Name: "m.weight", Shape: []int{out, in}, Role: model.Projection, Kind: "q_proj"}
	model := func(w []float32) *infer.Model {
		m := &infer.Model{Blocks: make([]infer.Block, 1)}
		m.Blocks[0].Q.Weight = compute.PackF32(out, in, w)
		return m
	}
	for _, whole := range []bool{true, false} {
		factors := func(n int) *choleskyFactor {
			m := newMoments(n, whole)
			x := spread(rng, tokens, n)
			m.add(pool, x[:50*n], 50)
			m.add(pool, x[50*n:], tokens-50)
			r, err := m.factor(pool, n == out)
			if err != nil {
				t.Fatal(err)
			}
			checkFactor(t, pool, r, x, n == out, whole)
			return r
		}
		x, g := factors(in), factors(out)
		z := &initializer{pool: pool, base: model(q), teacher: model(w), opts: &Options{}}
		var weighted mat.Dense // Gᵀ·(W−Ŵ)·L
		weighted.Sub(dense(w, out, in), dense(q, out, in))
		weighted.Mul(&weighted, lower(x))
		weighted.Mul(lower(g).T(), &weighted)
		var svd mat.SVD
		if !svd.Factorize(&weighted, mat.SVDNone) {
			t.Fatal("svd")
		}
		least := 0.0
		for _, s := range svd.Values(nil)[rank:] {
			least += s * s
		}
		left := func(use, gradients *choleskyFactor) float64 {
			s := &student{parts: []part{{spec: spec, name: "m", rank: rank, scale: 0.5, a: make([]float32, in*rank), b: make([]float32, out*rank)}}}
			z.students = []*student{s}
			z.approximate(0, z.weightedError(0, use, gradients), gradients)
			s.parts[0].factor = use
			v := s.values(pool, append(append([]float32(nil), s.parts[0].a...), s.parts[0].b...))["m"]
			var e mat.Dense
			e.Mul(dense(v.B, out, rank), dense(v.A, rank, in))
			e.Scale(0.5, &e)
			e.Mul(&e, lower(x))
			e.Mul(lower(g).T(), &e)
			e.Sub(&weighted, &e)
			return math.Pow(mat.Norm(&e, 2), 2)
		}
		if got := left(x, g); got > 1.001*least {
			t.Errorf("whole %v: the weighted init leaves %v, possible is %v", whole, got, least)
		}
		if got := left(nil, nil); got < 1.2*least {
			t.Errorf("whole %v: the plain init leaves %v, possible is %v", whole, got, least)
		}
	}
}

// checkFactor holds L·Lᵀ to the damped second moments of x, and what multiplies with L⁻¹ and
// its transpose to L.
func checkFactor(t *testing.T, pool *compute.Pool, f *choleskyFactor, x []float32, unit, whole bool) {
	t.Helper()
	n := f.n
	tokens := len(x) / n
	var want, got mat.Dense
	want.Mul(dense(x, tokens, n).T(), dense(x, tokens, n))
	want.Scale(1/float64(tokens), &want)
	mean := mat.Trace(&want) / float64(n)
	if unit {
		want.Scale(1/mean, &want)
		mean = 1
	}
	l := lower(f)
	got.Mul(l, l.T())
	eye := make([]float32, n*n)
	for i := range n {
		eye[i*n+i] = 1
		want.Set(i, i, want.At(i, i)+momentDamping*mean)
		for j := range n {
			if i != j && !whole {
				want.Set(i, j, 0)
			}
			if d := got.At(i, j) - want.At(i, j); math.Abs(d) > 1e-4*mean {
				t.Fatalf("(L·Lᵀ)[%d, %d] is %v, want %v", i, j, got.At(i, j), want.At(i, j))
			}
		}
	}
	for name, times := range map[string]func(*compute.Pool, []float32, []float32, int){"L": f.times, "L⁻¹": f.timesInverse, "L⁻ᵀ": f.timesInverseT} {
		y := make([]float32, n*n)
		times(pool, y, eye, n)
		var product mat.Dense
		switch name {
		case "L":
			product.Sub(dense(y, n, n), l)
		case "L⁻¹":
			product.Mul(dense(y, n, n), l)
			product.Sub(&product, dense(eye, n, n))
		default:
			product.Mul(dense(y, n, n), l.T())
			product.Sub(&product, dense(eye, n, n))
		}
		if off := mat.Max(&product) - mat.Min(&product); !(off < 1e-3*(1+math.Sqrt(mean))) {
			t.Errorf("products with %s are off by %v", name, off)
		}
	}
}

// TestFactorOfNothing checks the moments of zeros and of a value that is not a number.
func TestFactorOfNothing(t *testing.T) {
	pool := newPool(t, 1)
	m := newMoments(3, true)
	m.add(pool, make([]float32, 6), 2)
	r, err := m.factor(pool, true)
	if err != nil || r.diagonal[0] != 1 || r.diagonal[2] != 1 {
		t.Errorf("zeros: %v, %v", r, err)
	}
	m = newMoments(2, false)
	m.add(pool, []float32{1, float32(math.NaN())}, 1)
	if _, err := m.factor(pool, false); err == nil {
		t.Error("NaN has a Cholesky factor")
	}
}

// A run says where diagonals stand for second moments.
func TestNotes(t *testing.T) {
	shapes := func(list ...[2]int) []part {
		var parts []part
		for i, s := range list {
			p := part{}
			p.spec.Kind, p.spec.Shape = []string{"q_proj", "down_proj"}[i], s[:]
			parts = append(parts, p)
		}
		return parts
	}
	for name, c := range map[string]struct {
		parts []part
		opts  Options
		want  []string // a part of each note
	}{
		"small":         {shapes([2]int{64, 64}, [2]int{64, 176}), Options{Init: InitSVD}, nil},
		"wide inputs":   {shapes([2]int{64, 64}, [2]int{64, 8192}), Options{Init: InitSVD}, []string{"inputs of down_proj"}},
		"large outputs": {shapes([2]int{8192, 64}, [2]int{64, 64}), Options{Init: InitSVD}, []string{"outputs"}},
		"no init":       {shapes([2]int{8192, 64}, [2]int{64, 64}), Options{Init: InitZero}, nil},
		"both":          {shapes([2]int{8192, 4097}, [2]int{64, 4097}), Options{Init: InitSVD}, []string{"inputs of q_proj, down_proj", "outputs"}},
	} {
		tr := &trainer{opts: &c.opts, adapters: []*student{{parts: c.parts}}}
		got := tr.notes()
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], c.want[i]) {
				t.Errorf("%s: %q does not mention %q", name, got[i], c.want[i])
			}
		}
	}
}
