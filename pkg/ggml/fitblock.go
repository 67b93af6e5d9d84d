package ggml

import (
	"math"

	"github.com/x448/float16"
)

// half rounds v to a finite fp16.
func half(v float64) (bits uint16, value float64) {
	h := float16.Fromfloat32(float32(min(max(v, -65504), 65504)))
	return h.Bits(), float64(h.Float32())
}

// fitSingle fits the types whose only scale is D.
func (f *fitter) fitSingle(b *Block) {
	p := &f.of[0]
	f.fitPart(0)
	best := math.Inf(1)
	near, _ := half(p.grid.scale)
	for _, bits := range [3]uint16{near, near - 1, near + 1} {
		d := float64(float16.Frombits(bits).Float32())
		if math.IsInf(d, 0) || math.IsNaN(d) {
			continue
		}
		g := grid{d, p.grid.offset}
		var added uint16
		if f.added {
			_, g.offset = half(f.offset(p, f.nearest(0, g), d))
			added, _ = half(-g.offset)
		}
		if e := p.errorOn(f.nearest(0, g), g); e < best {
			best, b.D, b.DMin = e, bits, added
		}
	}
}

// factors are the values of D and DMin.
type factors struct{ d, dmin float64 }

// fitted is a choice of factors and integers for all parts.
type fitted struct {
	factors
	scales, mins [maxSubs]float64
	m            [maxSubs]moments
	errors       [maxSubs]float64
}

func (c *fitted) grid(i int) grid { return grid{c.d * c.scales[i], c.dmin * c.mins[i]} }

// fitBlock fits the types with integer scales.
func (f *fitter) fitBlock(b *Block) {
	for i := range f.parts {
		f.fitPart(i)
	}
	var best fitted
	least := math.Inf(1)
	var starts [maxStarts]factors
	for _, start := range starts[:f.startFactors(&starts)] {
		c := fitted{factors: start}
		if e := f.settle(&c); e < least {
			best, least = c, e
		}
	}
	b.SetFactors(best.d, best.dmin)
	b.Scales, b.Mins = [maxSubs]int8{}, [maxSubs]uint8{}
	for i := range f.parts {
		b.Scales[i], b.Mins[i] = int8(best.scales[i]), uint8(best.mins[i])
	}
}

// settle improves integers and factors in turn, from the factors of c, and returns the error.
func (f *fitter) settle(c *fitted) float64 {
	for i := range f.parts {
		p := &f.of[i]
		if c.d != 0 {
			c.scales[i] = f.roundScale(p.grid.scale / c.d)
		}
		if f.minMax > 0 {
			c.mins[i] = f.roundMin(p, p.m, c.d*c.scales[i], c.dmin)
		}
		c.m[i] = f.nearest(i, c.grid(i))
		c.errors[i] = p.errorOn(c.m[i], c.grid(i))
	}
	total := math.Inf(1)
	for range settleRounds {
		for i := range f.parts {
			f.settlePart(c, i)
		}
		before := total
		if total = f.total(c); total >= before {
			break
		}
		next := *c
		next.factors = f.refit(c)
		if next.factors == c.factors {
			break
		}
		for i := range f.parts {
			next.m[i] = f.nearest(i, next.grid(i))
			next.errors[i] = f.of[i].errorOn(next.m[i], next.grid(i))
		}
		e := f.total(&next)
		if !(e < total) {
			break
		}
		*c = next
	}
	return f.total(c)
}

// settleRounds bounds the repetitions of settle, of which few are needed.
const settleRounds = 6

func (f *fitter) total(c *fitted) (sum float64) {
	for _, e := range c.errors[:f.parts] {
		sum += e
	}
	return sum
}

// settlePart chooses the integers of part i among those around the present ones.
func (f *fitter) settlePart(c *fitted, i int) {
	p, scale := &f.of[i], c.scales[i]
	try := func(a, b float64, m moments) moments {
		g := grid{c.d * a, c.dmin * b}
		if a != c.scales[i] || b != c.mins[i] {
			m = f.nearest(i, g)
			if e := p.errorOn(m, g); e < c.errors[i] {
				c.errors[i], c.scales[i], c.mins[i], c.m[i] = e, a, b, m
			}
		}
		return m
	}
	for step := -f.reach; step <= f.reach; step++ {
		a := scale + float64(step)
		if a < float64(f.scaleMin) || a > float64(f.scaleMax) {
			continue
		}
		if f.minMax == 0 {
			try(a, 0, c.m[i])
			continue
		}
		m, last := c.m[i], -1.0
		for range f.rounds {
			b := f.roundMin(p, m, c.d*a, c.dmin)
			if b == last {
				break
			}
			m, last = try(a, b, m), b
		}
	}
}

// roundScale rounds to an integer scale in range.
func (f *fitter) roundScale(s float64) float64 {
	return min(max(math.RoundToEven(s), float64(f.scaleMin)), float64(f.scaleMax))
}

// roundMin returns the integer min that is best for a scale and the codes of the moments.
func (f *fitter) roundMin(p *part, m moments, scale, dmin float64) float64 {
	if dmin == 0 {
		return 0
	}
	return min(math.RoundToEven(f.offset(p, m, scale)/dmin), float64(f.minMax))
}

// refit returns the factors that are best for the present integers and codes, by the normal
// equations of both, rounded to fp16.
func (f *fitter) refit(c *fitted) factors {
	var aa, ab, bb, ax, bx float64
	for i := range f.parts {
		p, m, a, b := &f.of[i], c.m[i], c.scales[i], c.mins[i]
		aa += float64(a * a * m.ll)
		ab += float64(a * b * m.l)
		bb += float64(b * b * p.sw)
		ax += float64(a * m.xl)
		bx += float64(b * p.sx)
	}
	det := float64(aa*bb) - float64(ab*ab)
	next := c.factors
	switch {
	case det > 1e-12*float64(aa*bb):
		next.d = (float64(ax*bb) - float64(ab*bx)) / det
		next.dmin = (float64(ax*ab) - float64(aa*bx)) / det
	case bb > 0 && aa == 0:
		next.dmin = -bx / bb
	case aa > 0 && bb == 0:
		next.d = ax / aa
	}
	_, next.d = half(next.d)
	_, next.dmin = half(max(next.dmin, 0))
	return next
}
