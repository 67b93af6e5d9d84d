package palettize

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// KMeans finds optimal one-dimensional k-means clusterings. It keeps its buffers
// from one call to the next; the zero value is ready to use. A KMeans must not be
// used by two goroutines at once.
type KMeans struct {
	points
	bounds  []int32 // [k+1], the last clustering: cluster c is points bounds[c] to bounds[c+1]-1
	pass    lwsPass
	coarse  points // every few neighbouring points as one, to estimate the multiplier
	precise smawk
	passes  int  // passes over all points that the last clustering took
	fell    bool // the last clustering came from precise

	// rough asks for no proof: rounding is not looked at, and where no multiplier of a few
	// gives exactly k clusters, the optimal clustering into the most below k is taken.
	rough bool
	fewer int     // its number of clusters
	kept  []int32 // its bounds
}

// points is a weighted set of distinct values with its prefix sums. Differences
// of prefix sums give the weight and the mean of any run of points in O(1).
type points struct {
	n      int
	x, w   []float64 // [n] values less origin, ascending; weights, positive
	s0, s1 []float64 // [n+1] Σ w and Σ w·x up to a constant, which is chosen for precision
	below  float64   // Σ w·x² over the points that precede the zero of s1
	total  float64   // Σ w·x² over all points
	origin float64   // in the caller's units
	exact  bool      // s0 and s1 are free of rounding
}

// Solve writes to centroids[:k] the weighted means, in ascending order, of a
// partition of values into at most k clusters whose weighted squared error is the
// least possible, and returns that error. values must ascend (equal neighbours are
// merged) and be finite; weights[i] ≥ 0 is what an error at values[i] costs, and
// nil means 1 everywhere. With fewer than k distinct values of positive weight,
// the remaining centroids repeat the last one; with none, all are 0.
//
// It panics when k < 1 or the lengths do not fit.
func (s *KMeans) Solve(values, weights []float64, k int, centroids []float64) (sse float64) {
	if k < 1 || len(centroids) < k || weights != nil && len(weights) != len(values) {
		panic(fmt.Sprintf("palettize: %d clusters of %d values with %d weights into %d centroids", k, len(values), len(weights), len(centroids)))
	}
	scale, weightScale := powerBelow(values), powerBelow(weights)
	s.load(values, weights, scale, weightScale)
	if s.n == 0 {
		clear(centroids[:k])
		return 0
	}
	s.cluster(k)
	s.means(centroids[:k])
	for c := 0; c+1 < len(s.bounds); c++ {
		mean := centroids[c] - s.origin
		for i := s.bounds[c]; i < s.bounds[c+1]; i++ {
			d := s.x[i] - mean
			sse += s.w[i] * d * d
		}
	}
	for c := range k {
		centroids[c] /= scale
	}
	return sse / scale / scale / weightScale
}

// powerBelow returns the power of two that brings the largest magnitude of v into
// [0.5, 1): products of scaled values neither overflow nor vanish.
func powerBelow(v []float64) float64 {
	largest := 0.0
	for _, x := range v {
		largest = max(largest, math.Abs(x))
	}
	if largest == 0 {
		return 1
	}
	_, e := math.Frexp(largest)
	return math.Ldexp(1, min(max(-e, -1000), 1000))
}

// load takes values·scale with weights·weightScale, merges equal values and drops
// those without weight. The origin is the weighted median, and the prefix sums are
// zero there: the form S1²/S0 of a cluster's cost cancels when values are large
// compared with their spread, and a far outlier must not take digits from sums
// that do not hold it.
func (p *points) load(values, weights []float64, scale, weightScale float64) {
	p.x, p.w = slices.Grow(p.x[:0], len(values)), slices.Grow(p.w[:0], len(values))
	sum := 0.0
	for i, v := range values {
		w := 1.0
		if weights != nil {
			w = weights[i] * weightScale
		}
		if w == 0 {
			continue
		}
		sum += w
		v *= scale
		if n := len(p.x); n > 0 && p.x[n-1] == v {
			p.w[n-1] += w
			continue
		}
		p.x, p.w = append(p.x, v), append(p.w, w)
	}
	p.n, p.exact, p.origin = len(p.x), false, 0
	if p.n == 0 {
		return
	}
	mid, half := 0, p.w[0]
	for mid+1 < p.n && 2*half < sum {
		mid++
		half += p.w[mid]
	}
	p.origin = p.x[mid]
	for i := range p.x {
		p.x[i] -= p.origin
	}
	p.s0, p.s1 = grow(p.s0, p.n+1), grow(p.s1, p.n+1)
	p.s0[mid], p.s1[mid] = 0, 0
	var a, b, q accumulator
	for i := mid; i < p.n; i++ {
		a.add(p.w[i], 0)
		b.addProduct(p.w[i], p.x[i])
		q.addProduct(p.w[i]*p.x[i], p.x[i])
		p.s0[i+1], p.s1[i+1] = a.value(), b.value()
	}
	p.total = q.value()
	a, b, q = accumulator{}, accumulator{}, accumulator{}
	for i := mid - 1; i >= 0; i-- {
		a.add(-p.w[i], 0)
		b.addProduct(-p.w[i], p.x[i])
		q.addProduct(p.w[i]*p.x[i], p.x[i])
		p.s0[i], p.s1[i] = a.value(), b.value()
	}
	p.below = q.value()
	p.total += p.below
}

// loadCounts is load for fp16 values with integer counts, whose sums are exact:
// every value is a multiple of 2^-24, and so long as Σ|x| stays below 2^29 all
// sums fit the 53 bits of a float64. It returns false where they might not, and
// then load must be used.
func (p *points) loadCounts(values, counts []float64, total float64) bool {
	n := len(values)
	p.n, p.w = n, append(p.w[:0], counts...)
	p.x, p.s0, p.s1 = grow(p.x, n), grow(p.s0, n+1), grow(p.s1, n+1)
	s0 := p.s0[:n+1]
	x, counts := p.x[:n], counts[:n]
	sum := 0.0
	s0[0] = 0
	for i, w := range counts {
		sum += w
		s0[i+1] = sum
	}
	mid := sort.Search(n-1, func(i int) bool { return 2*s0[i+1] >= total })
	origin := values[mid]
	s1 := p.s1[:n+1]
	t, q, below := 0.0, 0.0, 0.0
	low := 0.0
	s1[0] = 0
	for i, v := range values[:n] {
		if i == mid {
			low, below = t, q
		}
		d := v - origin
		x[i] = d
		wd := counts[i] * d
		t += wd
		q += wd * d
		s1[i+1] = t
	}
	p.origin, p.below, p.total, p.exact = origin, below, q, true
	return t-2*low < 1<<29 && total < 1<<53
}

// cluster finds the optimal partition into min(k, n) runs and leaves it in bounds.
func (s *KMeans) cluster(k int) {
	s.passes, s.fell, s.fewer = 0, false, 0
	if k >= s.n {
		s.bounds = grow(s.bounds, s.n+1)
		for i := range s.bounds {
			s.bounds[i] = int32(i)
		}
		return
	}
	s.bounds = grow(s.bounds, k+1)
	s.bounds[0], s.bounds[k] = 0, int32(s.n)
	if k == 1 {
		return
	}
	if !s.search(k, s.estimate(k)) || !s.rough && s.noise(k) {
		if s.rough && s.fewer > 0 {
			s.bounds = append(s.bounds[:0], s.kept[:s.fewer+1]...)
			return
		}
		s.fell = true
		s.precise.solve(&s.points, s.bounds)
	}
}

// maxPasses bounds the search for the multiplier. One pass is the rule, and every
// third halves the bracket; a range for k that this does not find is as narrow as
// a tie.
const maxPasses = 100

// roughPasses is maxPasses where no proof is asked for.
const roughPasses = 16

// search looks for a multiplier for which k clusters are optimal, beginning with
// lambda, and leaves the partition in bounds.
func (s *KMeans) search(k int, lambda float64) bool {
	br := newBracket(k, lambda)
	most := maxPasses
	if s.rough {
		most = roughPasses
	}
	for s.passes < most && br.open() {
		s.passes++
		got := s.pass.run(&s.points, br.lambda)
		if got == k {
			s.pass.bounds(s.bounds)
			return true
		}
		if s.rough && got < k && got > s.fewer {
			s.fewer = got
			s.kept = grow(s.kept, got+1)
			s.pass.bounds(s.kept)
		}
		br.next(got)
	}
	return false
}

// resolution is the error, relative to the squared error, up to which the fast
// path may confuse two partitions.
const resolution = 1e-9

// noise estimates the rounding error of the fast path on the partition that it
// found and reports whether it is too large to call the partition optimal.
func (s *KMeans) noise(k int) bool {
	explained, scale, largest := 0.0, 0.0, 0.0
	for c := range k {
		j, i := s.bounds[c], s.bounds[c+1]
		t, d := s.s1[i]-s.s1[j], s.s0[i]-s.s0[j]
		mean := math.Abs(t / d)
		explained += t * t / d
		if !s.exact {
			scale += 2*mean*max(math.Abs(s.s1[i]), math.Abs(s.s1[j])) + mean*mean*max(math.Abs(s.s0[i]), math.Abs(s.s0[j]))
		}
		largest = max(largest, math.Abs(s.pass.best[i]))
	}
	scale += explained + largest*math.Sqrt(float64(k))
	return !(0x1p-52*scale <= resolution*(s.total-explained))
}

// means writes the mean of every cluster of bounds, in scaled units, and repeats
// the last one to the end of dst. No mean leaves the range of its cluster, not by
// rounding either, so they ascend.
func (s *KMeans) means(dst []float64) {
	last := 0.0
	for c := range dst {
		if c+1 < len(s.bounds) {
			j, i := s.bounds[c], s.bounds[c+1]
			switch {
			case i == j+1:
				last = s.x[j]
			case s.exact:
				last = (s.s1[i] - s.s1[j]) / (s.s0[i] - s.s0[j])
			default:
				last = mean(s.x[j:i], s.w[j:i])
			}
			last += s.origin
		}
		dst[c] = last
	}
}

// mean returns the weighted mean of ascending values. It is taken about the first
// one: prefix sums would lose the digits of a light cluster among heavy ones.
func mean(x, w []float64) float64 {
	t, d := 0.0, 0.0
	for i, v := range x {
		t += w[i] * (v - x[0])
		d += w[i]
	}
	return min(x[0]+t/d, x[len(x)-1])
}

// grow returns a slice of length n that reuses s where it can. The content is
// arbitrary.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
