package palettize

import "math"

// lwsPass minimizes Σ cost + λ·clusters over all partitions of a set of points into runs, a
// least-weight subsequence problem with concave Monge weights, by the algorithm of
// Hirschberg and Larmore ("The least weight subsequence problem", 1987). A queue holds the
// candidates for the start of the last cluster, each with the first end for which it is the
// best. The best candidate never moves back as the end advances.
//
// The cost of points j to i-1 is Q - S1²/S0, where S0, S1 and Q are the differences of the
// prefix sums of w, w·x and w·x². The sum of Q over all clusters is constant, so the pass
// maximizes Σ S1²/S0 - λ·clusters. It starts at minus the Q of the points below the origin:
// partial sums are then small near the origin, where most points are, and keep their digits.
type lwsPass struct {
	best  []float64 // [n+1] the value of the best partition of the first i points
	from  []int32   // [n+1] where its last cluster starts
	queue []candidate
	n     int
}

// candidate is a possible start of the last cluster.
type candidate struct {
	start int32
	first int32 // the first end for which it is the best
}

// beats reports whether a cluster that starts at prefix sums c0, c1 is better than one that
// starts earlier, at q0, q1, if both end at r0, r1. gain is the value of the best partition
// before the later start minus that before the earlier one. Both sides of the comparison
// are multiplied by the positive weights of the clusters.
func beats(gain, c0, c1, q0, q1, r0, r1 float64) bool {
	d1, d2 := r0-c0, r0-q0
	t1, t2 := r1-c1, r1-q1
	return (gain*d1+t1*t1)*d2 > t2*t2*d1
}

// run makes one pass with the multiplier lambda and returns the number of clusters of the
// best partition.
func (l *lwsPass) run(p *points, lambda float64) int {
	n := p.n
	l.n = n
	l.best, l.from, l.queue = grow(l.best, n+1), grow(l.from, n+1), grow(l.queue, n+1)
	best, from, queue := l.best[:n+1], l.from[:n+1], l.queue[:n+1]
	s0, s1 := p.s0[:n+1], p.s1[:n+1]
	best[0] = -p.below
	head, tail := 0, 0
	queue[0] = candidate{0, 1}
next:
	for i := 1; i <= n; i++ {
		if head < tail && int(queue[head+1].first) <= i {
			head++
		}
		j := int(queue[head].start)
		i0, i1 := s0[i], s1[i]
		t := i1 - s1[j]
		f := best[j] + t*t/(i0-s0[j]) - lambda
		best[i], from[i] = f, int32(j)
		if i == n {
			break
		}
		// Remove candidates at the back that i beats at their first end.
		q := queue[tail]
		q0, q1, gain := s0[q.start], s1[q.start], f-best[q.start]
		end := max(int(q.first), i+1)
		lo, hi := end, 0 // i loses at lo, wins at hi
		for beats(gain, i0, i1, q0, q1, s0[end], s1[end]) {
			hi = end
			tail--
			if tail < head {
				break
			}
			q = queue[tail]
			q0, q1, gain = s0[q.start], s1[q.start], f-best[q.start]
			end = max(int(q.first), i+1)
			lo = end
		}
		switch {
		case tail < head:
			hi = i + 1 // the best for all later ends
		case hi == 0:
			// Search for an end at which i beats the back, in growing steps. Many
			// starts inside a wide cluster never win, so test that after a few steps.
			hi = end + 1
			for step := 1; hi < n && !beats(gain, i0, i1, q0, q1, s0[hi], s1[hi]); {
				if step == 4 && !beats(gain, i0, i1, q0, q1, s0[n], s1[n]) {
					continue next
				}
				lo = hi
				step *= 2
				hi += step
			}
			if hi >= n {
				hi = n
				if !beats(gain, i0, i1, q0, q1, s0[n], s1[n]) {
					continue next
				}
			}
			fallthrough
		default:
			for hi-lo > 1 {
				m := int(uint(lo+hi) >> 1)
				if beats(gain, i0, i1, q0, q1, s0[m], s1[m]) {
					hi = m
				} else {
					lo = m
				}
			}
		}
		tail++
		queue[tail] = candidate{int32(i), int32(hi)}
	}
	k := 0
	for i := n; i > 0; i = int(from[i]) {
		k++
	}
	return k
}

// bounds writes the partition of the last run to b, whose length is the number of clusters
// plus 1.
func (l *lwsPass) bounds(b []int32) {
	i := int32(l.n)
	for c := len(b) - 1; c > 0; c-- {
		b[c] = i
		i = l.from[i]
	}
	b[0] = 0
}

// bracket searches for a multiplier that gives k clusters. The number of clusters decreases
// as the multiplier grows. For smooth densities it is proportional to λ^(-1/3), because the
// squared error is proportional to 1/k².
type bracket struct {
	k            int
	lambda       float64 // the next to try
	low, high    float64 // multipliers with more and fewer than k clusters; 0 and +Inf while unknown
	lowK, highK  int     // their numbers of clusters
	interpolated int     // steps since the bracket was halved
}

// newBracket returns an unbounded bracket for k clusters that starts at lambda.
func newBracket(k int, lambda float64) bracket {
	return bracket{k: k, lambda: lambda, high: math.Inf(1)}
}

// next updates the bracket with the number of clusters for lambda, which is not k, and sets
// the next lambda: by the power law, or by interpolation once both ends are known. Every
// third step halves the bracket, which guarantees that the search ends.
func (b *bracket) next(got int) {
	if got > b.k {
		b.low, b.lowK = b.lambda, got
	} else {
		b.high, b.highK = b.lambda, got
	}
	if b.low == 0 || math.IsInf(b.high, 1) {
		r := float64(got) / float64(b.k)
		b.lambda *= min(max(r*r*r, 1.0/64), 64)
		return
	}
	t := 0.5
	if b.interpolated++; b.interpolated%3 != 0 {
		t = float64(b.lowK-b.k) / float64(b.lowK-b.highK)
	}
	b.lambda = b.low * math.Pow(b.high/b.low, t)
}

// open reports whether the bracket contains another multiplier.
func (b *bracket) open() bool {
	return b.lambda > b.low*(1+0x1p-48) && b.lambda < b.high*(1-0x1p-48) && b.lambda <= math.MaxFloat64
}
