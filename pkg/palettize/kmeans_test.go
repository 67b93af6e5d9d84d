package palettize

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// sample is a weighted set of values to cluster.
type sample struct {
	name            string
	values, weights []float64 // ascending; weights may be nil
}

func (s sample) weight(i int) float64 {
	if s.weights == nil {
		return 1
	}
	return s.weights[i]
}

// weighted returns s without the values of weight 0.
func (s sample) weighted() sample {
	out := sample{name: s.name}
	for i, v := range s.values {
		if w := s.weight(i); w > 0 {
			out.values, out.weights = append(out.values, v), append(out.weights, w)
		}
	}
	return out
}

// samples draws n values from each of several distributions, typical of weights and not,
// with and without weights.
func samples(r *rand.Rand, n int) []sample {
	draws := []struct {
		name string
		draw func(i int) float64
	}{
		{"gauss", func(int) float64 { return 0.02 * r.NormFloat64() }},
		{"heavy tails", func(int) float64 { return 0.02 * heavy(r) }},
		{"laplace", func(int) float64 { return 0.02 * r.ExpFloat64() * float64(2*r.IntN(2)-1) }},
		{"uniform", func(int) float64 { return r.Float64() - 0.5 }},
		{"outliers", func(i int) float64 {
			if i%97 == 5 {
				return 50 * r.NormFloat64()
			}
			return 0.02 * r.NormFloat64()
		}},
		{"far outlier", func(i int) float64 {
			if i == 0 {
				return -65504
			}
			return 0.001 * r.NormFloat64()
		}},
		{"few distinct", func(int) float64 { return float64(r.IntN(9)) * 0.125 }},
		{"evenly spaced", func(i int) float64 { return float64(i) }},
		{"grid", func(int) float64 { return float64(r.IntN(40)-20) / 64 }},
		{"constant", func(int) float64 { return -0.75 }},
		{"subnormal fp16", func(int) float64 { return math.Round(300*r.NormFloat64()) * 0x1p-24 }},
		{"offset", func(int) float64 { return 1000 + 0.01*r.NormFloat64() }},
		{"two far peaks", func(i int) float64 { return 1000*float64(2*(i%2)-1) + 0.01*r.NormFloat64() }},
		{"negative", func(int) float64 { return -math.Exp(r.NormFloat64()) }},
		{"huge", func(int) float64 { return 1e140 * r.NormFloat64() }},
		{"tiny", func(int) float64 { return 1e-140 * r.NormFloat64() }},
		{"log scale", func(int) float64 { return math.Exp(8 * r.NormFloat64()) }},
	}
	var out []sample
	for _, d := range draws {
		s := sample{name: d.name, values: make([]float64, n)}
		for i := range s.values {
			s.values[i] = d.draw(i)
		}
		slices.Sort(s.values)
		out = append(out, s)
		s.name += ", weighted"
		s.weights = make([]float64, n)
		for i := range s.weights {
			if g := r.NormFloat64(); r.IntN(4) > 0 {
				s.weights[i] = g * g * g * g
			}
		}
		out = append(out, s)
	}
	return out
}

// heavy draws from a mixture of a Gaussian and, with probability 0.1, a Student t with three
// degrees of freedom, which resembles the weights of trained projections.
func heavy(r *rand.Rand) float64 {
	z := r.NormFloat64()
	if r.Float64() < 0.9 {
		return z
	}
	c := 0.0
	for range 3 {
		g := r.NormFloat64()
		c += g * g
	}
	return 1.5 * z / math.Sqrt(c/3)
}

// errorOf returns the weighted squared error of assigning every value to its nearest
// centroid, summed in double-double arithmetic.
func errorOf(s sample, centroids []float64) float64 {
	var sum accumulator
	for i, v := range s.values {
		j, _ := slices.BinarySearch(centroids, v)
		best := math.Inf(1)
		for _, c := range centroids[max(j-1, 0):min(j+1, len(centroids))] {
			best = min(best, (v-c)*(v-c))
		}
		sum.addProduct(s.weight(i), best)
	}
	return sum.value()
}

// plainOptimum returns the minimal squared error of at most k clusters by the recurrence over
// all starts and ends, in O(n³ + k n²), with each cost summed relative to its mean. It shares
// no code with the solvers.
func plainOptimum(s sample, k int) float64 {
	s = s.weighted()
	n := len(s.values)
	cost := make([][]float64, n)
	for j := range n {
		cost[j] = make([]float64, n+1)
		t, w := 0.0, 0.0
		for i := j + 1; i <= n; i++ {
			t += s.weight(i-1) * (s.values[i-1] - s.values[j])
			w += s.weight(i - 1)
			for p := j; w > 0 && p < i; p++ {
				d := s.values[p] - s.values[j] - t/w
				cost[j][i] += s.weight(p) * d * d
			}
		}
	}
	f := make([]float64, n+1)
	for i := 1; i <= n; i++ {
		f[i] = math.Inf(1)
	}
	for range k {
		g := slices.Clone(f)
		for i := 1; i <= n; i++ {
			for j := range i {
				g[i] = min(g[i], f[j]+cost[j][i])
			}
		}
		f = g
	}
	return f[n]
}

// smawkOptimum returns the minimal squared error by SMAWK alone.
func smawkOptimum(smp sample, k int) float64 {
	var s KMeans
	scale, weightScale := powerBelow(smp.values), powerBelow(smp.weights)
	s.load(smp.values, smp.weights, scale, weightScale)
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
	return errorOf(smp, c)
}

// floor is the squared error that results from rounding the centroids of values of this size
// to float64.
func floor(s sample) float64 {
	u := 0x1p-50 * max(math.Abs(s.values[0]), math.Abs(s.values[len(s.values)-1]))
	w := 0.0
	for i := range s.values {
		w += s.weight(i)
	}
	return u * u * w
}

func TestSMAWKAgreesWithThePlainRecurrence(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 2, 3, 5, 17, 60} {
		for _, smp := range samples(r, n) {
			for _, k := range []int{1, 2, 3, 7, 16} {
				got, want := smawkOptimum(smp, k), plainOptimum(smp, k)
				if !(math.Abs(got-want) <= 1e-12*want+floor(smp)) {
					t.Errorf("%s, n=%d, k=%d: squared error %g, least possible %g", smp.name, n, k, got, want)
				}
			}
		}
	}
}

func TestSolveIsOptimal(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var s KMeans
	fast, precise := 0, 0
	for _, n := range []int{1, 2, 3, 5, 17, 60, 1500} {
		for _, smp := range samples(r, n) {
			for _, k := range []int{1, 2, 3, 4, 16, 64} {
				var want float64
				if n <= 60 {
					want = plainOptimum(smp, k)
				} else {
					want = smawkOptimum(smp, k)
				}
				checkSolve(t, &s, smp, k, want)
				if s.usedSMAWK {
					precise++
				} else if s.passes > 0 {
					fast++
				}
			}
		}
	}
	t.Logf("%d by the fast path, %d by SMAWK", fast, precise)
	if fast < 2*precise || precise == 0 {
		t.Errorf("%d clusterings by the fast path, %d by SMAWK; both are to be tested, and the fast one is to be the rule", fast, precise)
	}
}

func TestSolveIsOptimalOnManyPoints(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	smp := sample{name: "heavy tails, many", values: make([]float64, 49152)}
	for i := range smp.values {
		h, _ := roundF16(0.02 * heavy(r))
		smp.values[i] = f16Value(h)
	}
	slices.Sort(smp.values)
	var s KMeans
	for _, k := range []int{4, 16} {
		checkSolve(t, &s, smp, k, smawkOptimum(smp, k))
		if s.usedSMAWK {
			t.Errorf("k=%d: the fast path did not end at k clusters", k)
		}
	}
}

func checkSolve(t *testing.T, s *KMeans, smp sample, k int, want float64) {
	t.Helper()
	c := make([]float64, k)
	claimed := s.Solve(smp.values, smp.weights, k, c)
	name := fmt.Sprintf("%s, n=%d, k=%d", smp.name, len(smp.values), k)
	if !slices.IsSorted(c) {
		t.Errorf("%s: centroids %v do not ascend", name, c)
	}
	got := errorOf(smp, c)
	if !(got <= want*(1+1e-12)+floor(smp)) {
		t.Errorf("%s: squared error %g, least possible %g (%.3g more), SMAWK %v", name, got, want, got/want-1, s.usedSMAWK)
	}
	if !(math.Abs(claimed-got) <= 1e-9*got+floor(smp)) {
		t.Errorf("%s: claims a squared error of %g, has %g", name, claimed, got)
	}
}

func TestSolveDegenerateSets(t *testing.T) {
	var s KMeans
	for _, tc := range []struct {
		name                  string
		values, weights, want []float64
	}{
		{"no values", nil, nil, []float64{0, 0, 0}},
		{"no weight", []float64{1, 2}, []float64{0, 0}, []float64{0, 0, 0}},
		{"one value", []float64{-3}, nil, []float64{-3, -3, -3}},
		{"equal values", []float64{2, 2, 2, 5}, []float64{1, 0, 3, 1}, []float64{2, 5, 5}},
		{"weightless values", []float64{1, 2, 3, 4}, []float64{0, 1, 0, 1}, []float64{2, 4, 4}},
		{"as many as clusters", []float64{1, 2, 4}, nil, []float64{1, 2, 4}},
		{"subnormal float64", []float64{5e-324, 1e-323, 2e-323}, nil, []float64{5e-324, 1e-323, 2e-323}},
	} {
		got := []float64{7, 7, 7}
		if sse := s.Solve(tc.values, tc.weights, 3, got); sse != 0 || !slices.Equal(got, tc.want) {
			t.Errorf("%s: centroids %v with error %v, want %v with 0", tc.name, got, sse, tc.want)
		}
	}
}

func FuzzSolve(f *testing.F) {
	f.Add(uint8(3), []byte("\x00\x01\x02\x03\x10\x11\x12\x13\x40\x80"))
	f.Add(uint8(1), []byte("aaaaaaaa"))
	f.Add(uint8(15), []byte("the quick brown fox jumps over the lazy dog"))
	f.Fuzz(func(t *testing.T, k uint8, data []byte) {
		// Two bytes per value: a position on a grid, and a weight of widely varying size.
		data = data[:min(len(data), 80)]
		var smp sample
		type point struct{ v, w float64 }
		var points []point
		for i := 0; i+1 < len(data); i += 2 {
			points = append(points, point{float64(int8(data[i])), math.Ldexp(float64(data[i+1]>>4), int(data[i+1]&15)-8)})
		}
		if len(points) == 0 {
			return
		}
		slices.SortFunc(points, func(a, b point) int { return int(a.v - b.v) })
		for _, p := range points {
			smp.values, smp.weights = append(smp.values, p.v), append(smp.weights, p.w)
		}
		smp.name = fmt.Sprintf("%v", points)
		clusters := 1 + int(k)%20
		checkSolve(t, new(KMeans), smp, clusters, plainOptimum(smp, clusters))
	})
}
