package palettize

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// KMeans finds optimal one-dimensional k-means clusterings. The package comment describes
// the method. The zero value is ready to use. A KMeans reuses its buffers and must not be
// used by two goroutines at the same time.
type KMeans struct {
	points
	bounds    []int32 // [k+1] the last clustering: cluster c is points bounds[c] to bounds[c+1]-1
	pass      lwsPass
	coarse    points // runs of neighbouring points merged, to estimate the multiplier
	precise   smawk
	passes    int  // passes over all points in the last clustering
	usedSMAWK bool // whether the last clustering came from precise

	// approximate skips the proof of optimality: rounding errors are not checked, and if none
	// of a few multipliers gives exactly k clusters, the result is the optimal clustering into
	// the largest number below k that was found.
	approximate bool
	fewer       int     // number of clusters of that clustering
	kept        []int32 // bounds of that clustering
}

// points is a weighted set of distinct values with prefix sums, whose differences give the
// weight and the mean of any run of points in O(1).
type points struct {
	n      int
	x, w   []float64 // [n] values minus origin, ascending; weights, positive
	s0, s1 []float64 // [n+1] Σ w and Σ w·x, up to a constant chosen for precision
	below  float64   // Σ w·x² over the points that precede the zero of s1
	total  float64   // Σ w·x² over all points
	origin float64   // in units of the caller
	exact  bool      // s0 and s1 are free of rounding
}

// Solve partitions values into at most k clusters of minimal weighted squared error. It
// writes the weighted means of the clusters to centroids[:k], in ascending order, and
// returns the squared error, minimal to 1e-9 relative. values must be finite and in
// ascending order; equal values are merged. weights[i] ≥ 0 is the cost of a squared error
// at values[i]; nil means 1 everywhere. With fewer than k distinct values of positive
// weight, the remaining centroids repeat the last one; with none, all are 0.
//
// It panics if k < 1 or if the lengths do not match.
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

// powerBelow returns the power of two that scales the largest magnitude of v to [0.5, 1), so
// that products of scaled values neither overflow nor underflow.
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

// load sets the points to values·scale with weights·weightScale, with equal values merged
// and those of weight 0 dropped. The origin is the weighted median, and the prefix sums are
// zero there. This limits cancellation: S1²/S0, which determines the cost of a cluster,
// loses digits if the values are large compared with their spread, and an outlier should
// not take digits from sums that do not include it.
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

// loadCounts is load for fp16 values with integer counts. Its sums are exact: every value is
// a multiple of 2^-24, so all sums fit into the 53 bits of a float64 as long as Σ|x| is
// below 2^29. If they might not fit, it returns false, and the caller must use load.
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

// cluster computes the optimal partition into min(k, n) clusters and stores it in bounds.
func (s *KMeans) cluster(k int) {
	s.passes, s.usedSMAWK, s.fewer = 0, false, 0
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
	if !s.search(k, s.estimate(k)) || !s.approximate && s.noise(k) {
		if s.approximate && s.fewer > 0 {
			s.bounds = append(s.bounds[:0], s.kept[:s.fewer+1]...)
			return
		}
		s.usedSMAWK = true
		s.precise.solve(&s.points, s.bounds)
	}
}

// maxPasses limits the search for the multiplier. One pass is usually enough, and every
// third pass halves the bracket. A range of multipliers that the search misses is narrow
// enough to be a tie.
const maxPasses = 100

// roughPasses is maxPasses for an approximate clustering.
const roughPasses = 16

// search searches, starting at lambda, for a multiplier for which k clusters are optimal. If
// it finds one, it stores the partition in bounds and returns true.
func (s *KMeans) search(k int, lambda float64) bool {
	br := newBracket(k, lambda)
	most := maxPasses
	if s.approximate {
		most = roughPasses
	}
	for s.passes < most && br.open() {
		s.passes++
		got := s.pass.run(&s.points, br.lambda)
		if got == k {
			s.pass.bounds(s.bounds)
			return true
		}
		if s.approximate && got < k && got > s.fewer {
			s.fewer = got
			s.kept = grow(s.kept, got+1)
			s.pass.bounds(s.kept)
		}
		br.next(got)
	}
	return false
}

// resolution is the largest error of the fast path, relative to the squared error, for which
// its partition is accepted.
const resolution = 1e-9

// noise estimates the rounding error of the fast path for its partition and reports whether
// it exceeds resolution.
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

// means writes the mean of every cluster of bounds to dst, in scaled units, and repeats the
// last one to the end. Even after rounding a mean lies within its cluster, so means ascend.
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

// mean returns the weighted mean of ascending values, computed relative to the first one.
// Prefix sums would lose the digits of a light cluster between heavy ones.
func mean(x, w []float64) float64 {
	t, d := 0.0, 0.0
	for i, v := range x {
		t += w[i] * (v - x[0])
		d += w[i]
	}
	return min(x[0]+t/d, x[len(x)-1])
}

// grow returns a slice of length n, which reuses s if its capacity suffices. The content is
// arbitrary.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
