package main

// sums holds the sixteen float64 lanes of a reduction in registers.
type sums struct {
	g   *group
	at  R
	acc []V
}

// newSums loads the lanes from the parameter total.
func newSums(g *group) sums {
	s := sums{g: g, at: g.arg("total"), acc: g.vecs(8)}
	g.loads(s.acc, s.at, 0)
	return s
}

// halves calls f with the lower and the upper half of each x as float64.
func (s sums) halves(i int, x []V, f func(acc V, x []V)) {
	w := s.g.vecs(len(x))
	for j, v := range x {
		s.g.fcvtl(w[j], v)
	}
	f(s.acc[2*i], w)
	for j, v := range x {
		s.g.fcvtl2(w[j], v)
	}
	f(s.acc[2*i+1], w)
	s.g.drop(w...)
}

// add adds vector i of a group of 16.
func (s sums) add(i int, x V) {
	s.halves(i, []V{x}, func(acc V, x []V) { s.g.fadd2(acc, acc, x[0]) })
}

// addSquares adds x² of vector i; the squares are exact as float64.
func (s sums) addSquares(i int, x V) {
	s.halves(i, []V{x}, func(acc V, x []V) { s.g.fmla2(acc, x[0], x[0]) })
}

// addProducts adds x·y of vector i; the products are exact as float64.
func (s sums) addProducts(i int, x, y V) {
	s.halves(i, []V{x, y}, func(acc V, x []V) { s.g.fmla2(acc, x[0], x[1]) })
}

func (s sums) store() { s.g.stores(s.acc, s.at, 0) }

// klSum adds the terms of the Kullback-Leibler divergence; see klSumGo. It processes
// two vectors of p and q at a time, because there are no registers for more.
func klSum(o *file) {
	g := beginGroup(o, "klSum", "p, q *float32, c *float32, n int, total *[16]float64", "p", "q")
	g.useConstants()
	sum := newSums(g)
	c := g.arg("c")
	params, delta := g.vec(), g.vec()
	g.load(params, c, 0) // log-sum-exps of p and q, in two parts each
	g.loadLane(delta, c, 16)
	g.dup(delta, delta, 0)
	g.each(func() {
		for i := 0; i < 4; i += 2 {
			e, d := g.vecs(4), g.vecs(2) // of p, p, q, q; p − q − delta
			g.loads(e[:2], g.ptrs[0], 16*i)
			g.loads(e[2:], g.ptrs[1], 16*i)
			t := g.vec()
			for j := range d {
				g.fsub(d[j], e[j], e[j+2])
				g.fsub(d[j], d[j], delta)
			}
			for lane := range 4 {
				g.dup(t, params, lane)
				for j := range d {
					v := e[lane/2*2+j]
					g.fsub(v, v, t)
				}
			}
			g.drop(t)
			g.exp(e)
			for j := range d {
				g.klTerm(e[j], e[j+2], d[j])
				sum.add(i+j, e[j])
			}
			g.drop(e...)
			g.drop(d...)
		}
	})
	sum.store()
	g.ret()
}

// klTerm replaces ep by the term of e^p, e^q and d.
func (g *group) klTerm(ep, eq, d V) {
	v := g.vecs(5)
	far, h, next, near, c := v[0], v[1], v[2], v[3], v[4]
	g.constant(c, one)
	g.fsub(c, d, c)
	g.orr(far, eq, eq)
	g.fmla(far, ep, c)
	g.constant(h, k9)
	for k := k8; k >= k2; k-- {
		g.constant(next, k)
		g.fmla(next, h, d)
		h, next = next, h
	}
	g.fmul(near, d, d)
	g.fmul(near, ep, near)
	g.fmul(near, near, h)
	g.fabs(d, d)
	g.constant(c, half)
	g.fcmge(c, c, d)
	g.bit(far, near, c)
	g.fcmeqZero(c, ep)
	g.bit(far, eq, c)
	g.orr(ep, far, far)
	g.drop(v...)
}
