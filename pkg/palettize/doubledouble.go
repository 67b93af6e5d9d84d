package palettize

import "math"

// double is a double-double number: the unevaluated sum hi + lo of two float64 with
// |lo| ≤ ulp(hi)/2, about 106 bits (T. J. Dekker, "A floating-point technique for extending
// the available precision", 1971; twoSum is Knuth's).
type double struct{ hi, lo float64 }

// twoSum returns a + b exactly.
func twoSum(a, b float64) double {
	s := a + b
	t := s - a
	return double{s, (a - (s - t)) + (b - t)}
}

// twoProd returns a · b exactly. The conversion to float64 prevents the compiler from
// fusing the product with a later addition, which would use the unrounded product. The
// conversions below serve the same purpose, so that all CPUs give the same bits.
func twoProd(a, b float64) double {
	p := float64(a * b)
	return double{p, math.FMA(a, b, -p)}
}

// quick normalizes hi + lo, |hi| ≥ |lo|.
func quick(hi, lo float64) double {
	s := hi + lo
	return double{s, lo - (s - hi)}
}

// add returns a + b.
func (a double) add(b double) double {
	s, t := twoSum(a.hi, b.hi), twoSum(a.lo, b.lo)
	s = quick(s.hi, s.lo+t.hi)
	return quick(s.hi, s.lo+t.lo)
}

// sub returns a - b.
func (a double) sub(b double) double { return a.add(double{-b.hi, -b.lo}) }

// mul returns a · b.
func (a double) mul(b double) double {
	p := twoProd(a.hi, b.hi)
	return quick(p.hi, p.lo+(float64(a.hi*b.lo)+float64(a.lo*b.hi)))
}

// times returns a · b.
func (a double) times(b float64) double {
	p := twoProd(a.hi, b)
	return quick(p.hi, p.lo+float64(a.lo*b))
}

// div returns a / b: a quotient and two correction steps.
func (a double) div(b double) double {
	q1 := a.hi / b.hi
	r := a.sub(b.times(q1))
	q2 := r.hi / b.hi
	r = r.sub(b.times(q2))
	q := quick(q1, q2)
	return q.add(double{r.hi / b.hi, 0})
}

// accumulator is a running sum in double-double arithmetic.
type accumulator struct{ sum double }

// add adds hi + lo.
func (a *accumulator) add(hi, lo float64) {
	s := twoSum(a.sum.hi, hi)
	a.sum = quick(s.hi, s.lo+(a.sum.lo+lo))
}

// addProduct adds x · y without rounding the product.
func (a *accumulator) addProduct(x, y float64) {
	p := twoProd(x, y)
	a.add(p.hi, p.lo)
}

// value returns the sum rounded to float64.
func (a *accumulator) value() float64 { return a.sum.hi }
