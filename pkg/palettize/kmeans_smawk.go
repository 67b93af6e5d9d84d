package palettize

import "math"

// smawk solves the recurrence f(m, i) = min over j < i of f(m-1, j) + cost(j, i) for k
// layers. The row minima of each layer, a totally monotone matrix, are found by the
// algorithm of Aggarwal, Klawe, Moran, Shor and Wilber ("Geometric applications of a
// matrix-searching algorithm", 1987). Costs are evaluated in double-double arithmetic, which
// avoids cancellation. It is many times slower than [lwsPass] and is used where the
// rounding errors of lwsPass are too large.
//
// Memory is linear in the number of points: instead of the choices of all layers it stores,
// for each end, the boundary of the middle layer, and then solves both halves (Hirschberg's
// divide and conquer). This doubles the time.
type smawk struct {
	p0, p1, p2 []double  // [n+1] prefix sums of w, w·x, w·x²
	prev, cur  []float64 // [n+1] f(m-1, ·), f(m, ·)
	arg        []int32   // [n+1] best j in the current layer
	mid, next  []int32   // [n+1] the boundary of the middle layer in the best partition that ends at i
	stacks     [][]int32 // surviving columns by recursion depth
	columns    []int32   // 0, 1, 2, …
	check      func()    // called between layers, which may take a second in all; nil for none
}

// solve writes the optimal partition of p into len(bounds)-1 ≤ n clusters to bounds.
func (s *smawk) solve(p *points, bounds []int32) {
	n := p.n
	s.p0, s.p1, s.p2 = grow(s.p0, n+1), grow(s.p1, n+1), grow(s.p2, n+1)
	s.prev, s.cur, s.arg = grow(s.prev, n+1), grow(s.cur, n+1), grow(s.arg, n+1)
	s.mid, s.next = grow(s.mid, n+1), grow(s.next, n+1)
	for len(s.columns) <= n {
		s.columns = append(s.columns, int32(len(s.columns)))
	}
	s.p0[0], s.p1[0], s.p2[0] = double{}, double{}, double{}
	for i := range n {
		wx := twoProd(p.w[i], p.x[i])
		s.p0[i+1] = s.p0[i].add(double{p.w[i], 0})
		s.p1[i+1] = s.p1[i].add(wx)
		s.p2[i+1] = s.p2[i].add(wx.times(p.x[i]))
	}
	bounds[0], bounds[len(bounds)-1] = 0, int32(n)
	s.split(0, n, bounds)
}

// cost returns the weighted squared error of points j to i-1 about their mean.
func (s *smawk) cost(j, i int) float64 {
	if i == j+1 {
		return 0
	}
	t, d := s.p1[i].sub(s.p1[j]), s.p0[i].sub(s.p0[j])
	if d.hi <= 0 {
		return 0 // weights below 2^-106 of the whole
	}
	c := s.p2[i].sub(s.p2[j]).sub(t.mul(t).div(d))
	return max(c.hi, 0)
}

// split sets the inner bounds of the optimal partition of points lo to hi-1.
func (s *smawk) split(lo, hi int, bounds []int32) {
	k := len(bounds) - 1
	if k < 2 {
		return
	}
	if hi-lo == k {
		for c := range bounds {
			bounds[c] = int32(lo + c)
		}
		return
	}
	half := k / 2
	for i := lo + 1; i <= hi; i++ {
		s.prev[i], s.mid[i] = s.cost(lo, i), int32(i)
	}
	for m := 2; m <= k; m++ {
		if s.check != nil {
			s.check()
		}
		first := lo + m // each of the m clusters has at least one point
		if m == k {
			first = hi
		}
		s.rows(first, hi, 1, s.columns[lo+m-1:hi], 0)
		for i := first; i <= hi; i++ {
			s.next[i] = int32(i)
			if m > half {
				s.next[i] = s.mid[s.arg[i]]
			}
		}
		s.prev, s.cur = s.cur, s.prev
		s.mid, s.next = s.next, s.mid
	}
	middle := int(s.mid[hi])
	bounds[half] = int32(middle)
	s.split(lo, middle, bounds[:half+1])
	s.split(middle, hi, bounds[half:])
}

// at returns the cost of the best partition whose last cluster is j to i-1; +Inf if that is
// empty.
func (s *smawk) at(i int, j int32) float64 {
	if int(j) >= i {
		return math.Inf(1)
	}
	return s.prev[j] + s.cost(int(j), i)
}

// rows finds the leftmost minimum over columns of the rows lo, lo+step, … ≤ hi and writes
// it to cur and arg.
func (s *smawk) rows(lo, hi, step int, columns []int32, depth int) {
	count := (hi-lo)/step + 1
	if depth == len(s.stacks) {
		s.stacks = append(s.stacks, nil)
	}
	// Reduce: keep at most one column per row.
	stack := s.stacks[depth][:0]
	for _, c := range columns {
		for len(stack) > 0 {
			r := lo + (len(stack)-1)*step
			if s.at(r, stack[len(stack)-1]) <= s.at(r, c) {
				break
			}
			stack = stack[:len(stack)-1]
		}
		if len(stack) < count {
			stack = append(stack, c)
		}
	}
	s.stacks[depth] = stack
	if count > 1 {
		s.rows(lo+step, hi, 2*step, stack, depth+1)
	}
	// Interpolate: the minimum of every other row lies between those of its neighbours.
	c := 0
	for r := lo; r <= hi; r += 2 * step {
		end := stack[len(stack)-1]
		if r+step <= hi {
			end = s.arg[r+step]
		}
		best, arg := math.Inf(1), stack[c]
		for {
			if v := s.at(r, stack[c]); v < best {
				best, arg = v, stack[c]
			}
			if stack[c] == end {
				break
			}
			c++
		}
		s.cur[r], s.arg[r] = best, arg
	}
}
