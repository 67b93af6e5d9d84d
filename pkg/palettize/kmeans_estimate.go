package palettize

import "math"

const (
	// densityRun is the number of points over which a density is averaged.
	densityRun = 32
	// coarseCell is the width of a coarse point relative to the root mean square error. It is
	// small enough that the multiplier for the coarse points nearly always gives k clusters
	// of the points themselves.
	coarseCell = 0.15
	// coarsePasses limits the search on the coarse points.
	coarsePasses = 12
)

// estimate returns a multiplier for which about k clusters are optimal, 1 < k < n. The
// result of the search that follows does not depend on its accuracy.
func (s *KMeans) estimate(k int) float64 {
	sse := s.roughError(k)
	// If the error is C/k², removing one cluster costs 2C/k³.
	br := newBracket(k, 2*sse/float64(k))
	s.merge(coarseCell * math.Sqrt(sse/(s.s0[s.n]-s.s0[0])))
	if s.coarse.n < 4*k || 2*s.coarse.n > s.n {
		return br.lambda
	}
	for range coarsePasses {
		got := s.pass.run(&s.coarse, br.lambda)
		if got == k || !br.open() {
			break
		}
		br.next(got)
	}
	return br.lambda
}

// roughError returns an estimate of the minimal squared error of k clusters (Panter and
// Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing of
// levels", 1951): (∫ density^(1/3))³ / 12k², with the density averaged over short runs of
// points.
func (s *KMeans) roughError(k int) float64 {
	sum := 0.0
	for i := 0; i < s.n; i += densityRun {
		end := min(i+densityRun, s.n)
		width := s.x[min(end, s.n-1)] - s.x[i]
		sum += math.Cbrt((s.s0[end] - s.s0[i]) * width * width)
	}
	sse := sum * sum * sum / (12 * float64(k) * float64(k))
	return min(max(sse, 0x1p-40*s.total), s.total/2)
}

// merge builds the coarse points: runs of points not wider than width.
func (s *KMeans) merge(width float64) {
	c := &s.coarse
	c.s0, c.s1 = append(c.s0[:0], s.s0[0]), append(c.s1[:0], s.s1[0])
	const skip = 16 // take large steps where points are dense
	x := s.x[:s.n]
	for i := 0; ; {
		last := x[i] + width
		i++
		for i+skip < len(x) && x[i+skip] <= last {
			i += skip
		}
		for i < len(x) && x[i] <= last {
			i++
		}
		if i == len(x) {
			break
		}
		c.s0, c.s1 = append(c.s0, s.s0[i]), append(c.s1, s.s1[i])
	}
	c.s0, c.s1 = append(c.s0, s.s0[s.n]), append(c.s1, s.s1[s.n])
	c.n, c.below = len(c.s0)-1, s.below
}
