package grid

import "math"

// scaledFitter fits the parameters of groups: it minimizes Σ w·(x - ŵ)², where each weight has the
// code nearest to it. Grids of many widths are starts; from each, codes and the least-squares
// solution for them are computed in turn. The arithmetic is float64, and products are converted
// before they are added, so that every processor finds the same fit.
type scaledFitter struct {
	scaled
	x, w       []float64
	sw, sx, sq float64 // sums of w, w·x and w·x²
	best       float64
	result     [3]float64 // scale, zero, bias
}

func newScaledFitter(s scaled, n int) *scaledFitter {
	return &scaledFitter{scaled: s, x: make([]float64, n), w: make([]float64, n)}
}

const (
	fitStarts = 8 // widths of a start, at each end where the ends are independent
	fitRounds = 3
	// A start covers the weights from fitWide to fitNarrow times their range.
	fitWide, fitNarrow = 1.05, 0.75
	// Symmetric grids of few levels cut off or exceed the range by more.
	symmetricWide, symmetricNarrow = 1.35, 0.60
)

// fit returns the best group for weights x. A millionth of the mean importance is added to each, so
// that weights without any still get codes near to them.
func (f *scaledFitter) fit(x, importance []float32) group {
	mean := 0.0
	for _, v := range importance {
		mean += float64(v) / float64(len(importance))
	}
	f.sw, f.sx, f.sq = 0, 0, 0
	low, high := math.Inf(1), math.Inf(-1)
	for i, v := range x {
		w := 1.0
		if mean > 0 {
			w = float64(importance[i])/mean + 1e-6
		}
		f.x[i], f.w[i] = float64(v), w
		wx := float64(w * float64(v))
		f.sw += w
		f.sx += wx
		f.sq += float64(wx * float64(v))
		low, high = min(low, float64(v)), max(high, float64(v))
	}
	// At worst all weights are the same: zero, or the bias.
	f.best, f.result = f.sq, [3]float64{0, float64(f.middle()), 0}
	if f.bias {
		g := f.newGroup(0, 0, f.sx/f.sw)
		f.result[2] = float64(g.bias)
		f.best = f.errorOf(0, f.result[2], 0, 0, 0)
	}
	last := float64(f.levels - 1)
	switch {
	case low == high && (f.bias || low == 0):
	case f.bias:
		f.twoEnds(low, high, func(a, b float64) { f.try((b-a)/last, 0, a) })
	case f.zeros:
		low, high = min(low, 0), max(high, 0)
		f.twoEnds(low, high, func(a, b float64) {
			scale := (b - a) / last
			f.try(scale, min(max(math.RoundToEven(-a/scale), 0), last), 0)
		})
	default:
		f.symmetric(low, high)
	}
	return f.newGroup(f.result[0], f.result[1], f.result[2])
}

// twoEnds calls try with ends around low and high.
func (f *scaledFitter) twoEnds(low, high float64, try func(a, b float64)) {
	span := high - low
	for i := range fitStarts {
		for j := range fitStarts {
			a, b := startWidth(i, fitWide, fitNarrow), startWidth(j, fitWide, fitNarrow)
			try(low+span*(1-a), high-span*(1-b))
		}
	}
}

// symmetric tries grids whose lowest or highest level is near to the weight of largest magnitude.
func (f *scaledFitter) symmetric(low, high float64) {
	extreme := high
	if -low > high {
		extreme = low
	}
	zero := float64(f.middle())
	for i := range 3 * fitStarts {
		width := symmetricWide - (symmetricWide-symmetricNarrow)*float64(i)/(3*fitStarts-1)
		f.try(-extreme*width/zero, zero, 0)
		f.try(extreme*width/(float64(f.levels)-1-zero), zero, 0)
	}
}

func startWidth(i int, wide, narrow float64) float64 {
	return wide - (wide-narrow)*float64(i)/(fitStarts-1)
}

// try improves a start and keeps it if it is the best. Its error is that of the rounded parameters.
func (f *scaledFitter) try(scale, zero, bias float64) {
	last := math.Inf(1)
	for range fitRounds {
		l, ll, xl := f.moments(scale, zero, bias)
		if ll == 0 {
			return
		}
		scale, bias = f.solve(l, ll, xl)
		e := f.errorOf(scale, bias, l, ll, xl)
		if e > 1.05*f.best || e >= last {
			break
		}
		last = e
	}
	g := f.newGroup(scale, zero, bias)
	if f.bias { // the best bias for the rounded scale
		l, _, _ := f.moments(float64(g.scale), zero, float64(g.bias))
		g = f.newGroup(float64(g.scale), zero, (f.sx-float64(float64(g.scale)*l))/f.sw)
	}
	if g.scale == 0 {
		return
	}
	l, ll, xl := f.moments(float64(g.scale), zero, float64(g.bias))
	if e := f.errorOf(float64(g.scale), float64(g.bias), l, ll, xl); e < f.best {
		f.best, f.result = e, [3]float64{float64(g.scale), zero, float64(g.bias)}
	}
}

// moments returns Σ w·l, Σ w·l² and Σ w·x·l, where l = q - zero for the code q nearest to a weight.
func (f *scaledFitter) moments(scale, zero, bias float64) (l, ll, xl float64) {
	inverse := 1 / scale
	shift, first, last := float64(bias*inverse), -zero, float64(f.levels-1)-zero
	w := f.w[:len(f.x)]
	for i, x := range f.x {
		v := float64(x*inverse) - shift
		if v < first {
			v = first
		}
		if v > last {
			v = last
		}
		v = v + toInteger - toInteger
		wl := float64(w[i] * v)
		l += wl
		ll += float64(wl * v)
		xl += float64(wl * x)
	}
	return l, ll, xl
}

// toInteger rounds a float64 of less than 2^51 to an integer when it is added and subtracted.
const toInteger = 3 << 51

// solve returns the scale and the bias of least error for the codes of the moments.
func (f *scaledFitter) solve(l, ll, xl float64) (scale, bias float64) {
	if !f.bias {
		return xl / ll, 0
	}
	det := float64(f.sw*ll) - float64(l*l)
	if det <= 1e-12*float64(f.sw*ll) { // all codes are equal
		return xl / ll, 0
	}
	scale = (float64(f.sw*xl) - float64(f.sx*l)) / det
	return scale, (f.sx - float64(scale*l)) / f.sw
}

// errorOf returns the weighted squared error with the codes of the moments.
func (f *scaledFitter) errorOf(scale, bias, l, ll, xl float64) float64 {
	return f.sq - 2*float64(scale*xl) - 2*float64(bias*f.sx) + float64(scale*scale*ll) +
		2*float64(scale*bias*l) + float64(bias*bias*f.sw)
}
