package palettize

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// sample is a weighted set of values that a test clusters.
type sample struct {
	name            string
	values, weights []float64 // ascending; weights may be nil
}

// accurate returns the weighted squared error of the nearest-centroid assignment,
// in twice the precision: the figure that every solver is judged by.
func accurate(values, weights, centroids []float64) float64 {
	var sum accumulator
	for i, v := range values {
		w := 1.0
		if weights != nil {
			w = weights[i]
		}
		best := math.Inf(1)
		for _, c := range centroids {
			best = min(best, (v-c)*(v-c))
		}
		sum.addProduct(w, best)
	}
	return sum.value()
}

// oracle returns the least squared error of k clusters by the plain recurrence
// over all ends and starts, O(k n²), with costs summed about the mean. It shares
// no code with the solvers.
func oracle(values, weights []float64, k int) float64 {
	n := len(values)
	cost := make([][]float64, n)
	for j := range n {
		cost[j] = make([]float64, n+1)
		for i := j + 1; i <= n; i++ {
			t, w := 0.0, 0.0
			for p := j; p < i; p++ {
				wp := 1.0
				if weights != nil {
					wp = weights[p]
				}
				t += wp * (values[p] - values[j])
				w += wp
			}
			if w == 0 {
				continue
			}
			m := values[j] + t/w
			for p := j; p < i; p++ {
				wp := 1.0
				if weights != nil {
					wp = weights[p]
				}
				cost[j][i] += wp * (values[p] - m) * (values[p] - m)
			}
		}
	}
	f := make([]float64, n+1)
	for i := range f {
		f[i] = math.Inf(1)
	}
	f[0] = 0
	for range k {
		g := slices.Clone(f) // using fewer clusters is allowed
		for i := 1; i <= n; i++ {
			for j := range i {
				g[i] = min(g[i], f[j]+cost[j][i])
			}
		}
		f = g
	}
	return f[n]
}

// bySMAWK solves with the precise solver alone.
func bySMAWK(values, weights []float64, k int) float64 {
	var s Solver
	scale, weightScale := powerBelow(values), powerBelow(weights)
	s.load(values, weights, scale, weightScale)
	if s.n <= k {
		return 0
	}
	s.bounds = make([]int32, k+1)
	s.precise.solve(&s.points, s.bounds)
	c := make([]float64, k)
	s.means(c)
	for i := range c {
		c[i] /= scale
	}
	return accurate(values, weights, c)
}

// smallSamples draws a few samples of n values from distributions that weights
// come in, and from some that they hardly do.
func samples(r *rand.Rand, n int) []sample {
	draw := func(name string, weighted bool, f func(i int) float64) sample {
		s := sample{name: name, values: make([]float64, n)}
		for i := range s.values {
			s.values[i] = f(i)
		}
		slices.Sort(s.values)
		if weighted {
			s.name += "/weighted"
			s.weights = make([]float64, n)
			for i := range s.weights {
				g := r.NormFloat64()
				s.weights[i] = g * g * g * g
				if r.IntN(4) == 0 {
					s.weights[i] = 0
				}
			}
		}
		return s
	}
	var out []sample
	for _, weighted := range []bool{false, true} {
		add := func(name string, f func(i int) float64) { out = append(out, draw(name, weighted, f)) }
		add("gauss", func(int) float64 { return 0.02 * r.NormFloat64() })
		add("heavy", func(int) float64 { return 0.02 * heavy(r) })
		add("laplace", func(int) float64 { return 0.02 * r.ExpFloat64() * float64(2*r.IntN(2)-1) })
		add("uniform", func(int) float64 { return r.Float64() - 0.5 })
		add("outliers", func(i int) float64 {
			if i%97 == 5 {
				return 50 * r.NormFloat64()
			}
			return 0.02 * r.NormFloat64()
		})
		add("far outlier", func(i int) float64 {
			if i == 0 {
				return -65504
			}
			return 0.001 * r.NormFloat64()
		})
		add("few distinct", func(int) float64 { return float64(r.IntN(9)) * 0.125 })
		add("ties", func(i int) float64 { return float64(i) })
		add("grid", func(int) float64 { return float64(r.IntN(40)-20) / 64 })
		add("constant", func(int) float64 { return -0.75 })
		add("subnormal fp16", func(int) float64 { return math.Round(300*r.NormFloat64()) * 0x1p-24 })
		add("offset", func(int) float64 { return 1000 + 0.01*r.NormFloat64() })
		add("two far peaks", func(i int) float64 { return 1000*float64(2*(i%2)-1) + 0.01*r.NormFloat64() })
		add("negative", func(int) float64 { return -math.Exp(r.NormFloat64()) })
		add("huge", func(int) float64 { return 1e140 * r.NormFloat64() })
		add("tiny", func(int) float64 { return 1e-140 * r.NormFloat64() })
		add("log scale", func(int) float64 { return math.Exp(8 * r.NormFloat64()) })
	}
	return out
}

// heavy draws from a mixture of a Gaussian and, one in ten, a Student t with three
// degrees of freedom: how the weights of trained projections look.
func heavy(r *rand.Rand) float64 {
	if r.Float64() < 0.9 {
		return r.NormFloat64()
	}
	z, c := r.NormFloat64(), 0.0
	for range 3 {
		g := r.NormFloat64()
		c += g * g
	}
	return 1.5 * z / math.Sqrt(c/3)
}

func TestSolveIsOptimalOnSmallSets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var s Solver
	for _, n := range []int{1, 2, 3, 5, 17, 60} {
		for _, smp := range samples(r, n) {
			for _, k := range []int{1, 2, 3, 4, 8, 16} {
				check(t, &s, smp, k, oracle(smp.values, smp.weights, k), 1e-12)
			}
		}
	}
}

func TestSolveIsOptimalOnLargeSets(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	sizes := []int{2000}
	var s Solver
	for _, n := range sizes {
		for _, smp := range samples(r, n) {
			for _, k := range []int{2, 4, 16, 64} {
				check(t, &s, smp, k, bySMAWK(smp.values, smp.weights, k), 1e-12)
			}
		}
	}
}

func check(t *testing.T, s *Solver, smp sample, k int, want, tolerance float64) {
	t.Helper()
	c := make([]float64, k)
	got := s.Solve(smp.values, smp.weights, k, c)
	name := fmt.Sprintf("%s n=%d k=%d", smp.name, len(smp.values), k)
	if !slices.IsSorted(c) {
		t.Errorf("%s: centroids %v do not ascend", name, c)
	}
	spread := smp.values[len(smp.values)-1] - smp.values[0]
	mag := max(math.Abs(smp.values[0]), math.Abs(smp.values[len(smp.values)-1]))
	// Below this the values themselves cannot hold their centroid.
	floor := mag * 0x1p-52 * mag * 0x1p-52 * float64(len(smp.values)) * 16
	_ = spread
	real := accurate(smp.values, smp.weights, c)
	if !(real <= want*(1+tolerance)+floor) {
		t.Errorf("%s: squared error %g, least possible %g (ratio-1 = %.3g), passes %d, fell %v", name, real, want, real/want-1, s.passes, s.fell)
	}
	if d := math.Abs(got - real); d > 1e-9*real+floor {
		t.Errorf("%s: reports a squared error of %g, has %g", name, got, real)
	}
}
