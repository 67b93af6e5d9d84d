package ggml

// Fit sets the fields of the block to those that represent the weights x best: it minimizes the
// sum of importance[i]*(x[i]-w)^2, where w is the weight that the fields stand for. b.Type must
// be set. x has BlockWeights values, all finite; importance is nil or has as many, finite and
// not negative. Fit does not allocate.
//
// A millionth of the mean importance is added to each, so that weights without any still get
// codes near to them. A scale that exceeds fp16 is its largest finite value.
//
// The method is a search around least squares. For each part, grids of many widths are tried:
// the weights are assigned to the nearest levels, and scale and offset solve the normal
// equations for that assignment; both repeat while the error falls. In types with integer scales
// the block's factors are then searched in the same way, the error of a part being a quadratic
// form in its scale and offset. From the best of them, integer scales, codes and factors are
// improved in turn, each by the error of the values as they are stored.
func (b *Block) Fit(x, importance []float32) {
	var f fitter
	f.load(b.Type, x, importance)
	if f.scaleMax == 0 {
		f.fitSingle(b)
	} else {
		f.fitBlock(b)
	}
	n := f.part
	for i := range f.parts {
		s := b.Step(i)
		for j, v := range x[i*n:][:n] {
			b.Codes[i*n+j], _ = b.Type.Nearest(v, s)
		}
	}
}

// fitter is the state of one Fit. The arithmetic is float64, and products are converted before
// they are added, so that no compiler fuses the two and every processor finds the same fit.
type fitter struct {
	*format
	search
	first, last float64 // the lowest and the highest level
	parts       int
	of          [maxSubs]part
	x, w        [maxWeights]float64
}

// part is a run of weights with a common scale.
type part struct {
	sw, sx, sq float64 // sums of w, w*x and w*x*x
	grid       grid    // the best without constraints from the other parts
	m          moments // of the levels nearest to grid
}

// grid is a scale and an offset: a weight is scale*level - offset.
type grid struct{ scale, offset float64 }

// moments are sums over the weights of a part, with the level of each.
type moments struct{ l, ll, xl float64 } // of w*level, w*level*level, w*x*level

// load prepares the sums of the parts.
func (f *fitter) load(t Type, x, importance []float32) {
	f.format, f.search = t.format(), searches[t]
	f.first, f.last = float64(t.Level(f.lowest)), float64(t.Level(uint8(f.codes-1)))
	f.parts = t.Parts()
	mean := 0.0
	for _, w := range importance {
		mean += float64(w) / float64(len(importance))
	}
	for i, v := range x {
		f.x[i] = float64(v)
		f.w[i] = 1
		if mean > 0 {
			f.w[i] = float64(importance[i])/mean + 1e-6
		}
	}
	for i := range f.parts {
		p := &f.of[i]
		x, w := f.values(i)
		for j := range x {
			wx := float64(w[j] * x[j])
			p.sw += w[j]
			p.sx += wx
			p.sq += float64(wx * x[j])
		}
	}
}

// values returns the weights of part i and their importance.
func (f *fitter) values(i int) (x, w []float64) {
	return f.x[i*f.part:][:f.part], f.w[i*f.part:][:f.part]
}

// errorOn returns the weighted squared error of the part on a grid, with the moments of its codes.
func (p *part) errorOn(m moments, g grid) float64 {
	return p.sq - 2*float64(g.scale*m.xl) + 2*float64(g.offset*p.sx) + float64(g.scale*g.scale*m.ll) -
		2*float64(g.scale*g.offset*m.l) + float64(g.offset*g.offset*p.sw)
}

// toInteger rounds a float64 of less than 2^51 to an integer when it is added and subtracted.
const toInteger = 3 << 51

// nearest returns the moments of the levels that are nearest to the weights of part i on a grid.
func (f *fitter) nearest(i int, g grid) (m moments) {
	if g.scale == 0 {
		return moments{}
	}
	if f.table != nil {
		return f.nearestInTable(i, 1/g.scale)
	}
	inverse := 1 / g.scale
	shift := float64(g.offset * inverse)
	first, last := f.first, f.last
	values, w := f.values(i)
	w = w[:len(values)]
	for i, x := range values {
		l := float64(x*inverse) + shift
		if l < first {
			l = first
		}
		if l > last {
			l = last
		}
		l = l + toInteger - toInteger
		wl := float64(w[i] * l)
		m.l += wl
		m.ll += float64(wl * l)
		m.xl += float64(wl * x)
	}
	return m
}

// nearestInTable is nearest for the levels of IQ4, whose grids have no offset.
func (f *fitter) nearestInTable(i int, inverse float64) (m moments) {
	values, w := f.values(i)
	w = w[:len(values)]
	for i, x := range values {
		l := iq4Levels[nearestIQ4(x*inverse)&15]
		wl := float64(w[i] * l)
		m.ll += float64(wl * l)
		m.xl += float64(wl * x)
	}
	return m
}

var iq4Levels = func() (levels [16]float64) {
	for i, l := range iq4 {
		levels[i] = float64(l)
	}
	return levels
}()

// solve returns the grid with the least error for the codes of the moments. The types with
// integer mins take no negative offset.
func (f *fitter) solve(p *part, m moments) grid {
	if !f.added && f.minMax == 0 {
		return ratio(m)
	}
	det := float64(p.sw*m.ll) - float64(m.l*m.l)
	if det <= 1e-12*float64(p.sw*m.ll) { // all codes are equal
		return grid{offset: f.offset(p, m, 0)}
	}
	scale := (float64(p.sw*m.xl) - float64(p.sx*m.l)) / det
	offset := f.offset(p, m, scale)
	if offset == 0 {
		return ratio(m)
	}
	return grid{scale, offset}
}

// ratio is solve without an offset.
func ratio(m moments) grid {
	if m.ll == 0 {
		return grid{}
	}
	return grid{scale: m.xl / m.ll}
}

// offset returns the best offset for a scale and the codes of the moments.
func (f *fitter) offset(p *part, m moments, scale float64) float64 {
	o := (float64(scale*m.l) - p.sx) / p.sw
	if f.added {
		return o
	}
	return max(o, 0)
}

// fitPart finds the grid of part i from many starts.
func (f *fitter) fitPart(i int) {
	p := &f.of[i]
	best := p.sq
	p.grid, p.m = grid{}, moments{}
	try := func(g grid) {
		for range f.rounds {
			m := f.nearest(i, g)
			g = f.solve(p, m)
			e := p.errorOn(m, g)
			if e < best {
				best, p.grid, p.m = e, g, m
			} else if e > best*1.05 {
				return
			}
		}
	}
	values, _ := f.values(i)
	low, high := values[0], values[0]
	for _, x := range values {
		low, high = min(low, x), max(high, x)
	}
	if f.added || f.minMax > 0 {
		if !f.added {
			low = min(low, 0)
		}
		f.startTwoEnds(low, high, try)
		return
	}
	extreme := high
	if -low > high {
		extreme = low
	}
	for i := range f.starts {
		r := f.wide - (f.wide-f.narrow)*float64(i)/float64(f.starts-1)
		try(grid{scale: extreme / (r * f.first)})
		try(grid{scale: extreme / (r * f.last)})
	}
}

// startTwoEnds tries grids from about the lowest to about the highest weight.
func (f *fitter) startTwoEnds(low, high float64, try func(grid)) {
	span := high - low
	for i := range f.starts {
		a := 1 - f.wide + (f.wide-f.narrow)*float64(i)/float64(f.starts-1)
		for j := range f.starts {
			b := 1 - f.wide + (f.wide-f.narrow)*float64(j)/float64(f.starts-1)
			try(grid{span * (1 - a - b) / f.last, -low - float64(a*span)})
		}
	}
}

// search says how widely Fit searches for a type.
type search struct {
	wide, narrow float64 // the widths of the first grids, relative to that of the weights
	starts       int     // the number of widths, of each end of a grid where it has an offset
	rounds       int     // of assignment and least squares from each start
	tries        int     // pairs of factors from which integer scales are fitted
	reach        int     // how far integer scales are from the rounded ones
}

var searches = [len(formats)]search{
	Q4_0:   {1.30, 0.70, 20, 3, 0, 0},
	Q4_1:   {1.04, 0.84, 8, 3, 0, 0},
	Q5_0:   {1.20, 0.80, 24, 2, 0, 0},
	Q5_1:   {1.04, 0.84, 12, 3, 0, 0},
	Q8_0:   {1.005, 0.95, 48, 1, 0, 0},
	Q2_K:   {1.10, 0.60, 6, 3, 8, 2},
	Q3_K:   {1.50, 0.50, 24, 3, 6, 3},
	Q4_K:   {1.04, 0.84, 8, 3, 4, 2},
	Q5_K:   {1.04, 0.86, 10, 3, 4, 2},
	Q6_K:   {1.04, 0.86, 16, 3, 6, 4},
	IQ4_NL: {1.30, 0.70, 24, 3, 0, 0},
	IQ4_XS: {1.30, 0.70, 24, 3, 4, 2},
}
