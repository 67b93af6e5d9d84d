package ggml

import "math"

const (
	maxStarts = 8    // pairs of factors that are tried at most
	scanSteps = 48   // factors that are compared, of each sign
	scanFrom  = 1.6  // the first is so much larger than what represents the largest scale
	scanTo    = 0.95 // and the last that much smaller
)

// startFactors finds factors that suit the grids of all parts, and returns how many.
func (f *fitter) startFactors(starts *[maxStarts]factors) int {
	if f.minMax == 0 {
		return f.startScales(starts)
	}
	n := f.startScales(starts)
	for i := range starts[:n] {
		starts[i].dmin = f.startMin(starts[i].d)
	}
	return n
}

// startScales finds the best factors of the scales alone. The error of a part whose scale is not
// at its optimum grows with the square of the distance; offsets are taken to adapt.
func (f *fitter) startScales(starts *[maxStarts]factors) int {
	var scales, curvature [maxSubs]float64
	extreme := 0.0
	for i := range f.parts {
		p := &f.of[i]
		scales[i], curvature[i] = p.grid.scale, p.m.ll
		if f.minMax > 0 {
			curvature[i] -= p.m.l * p.m.l / p.sw
		}
		if math.Abs(scales[i]) > math.Abs(extreme) {
			extreme = scales[i]
		}
	}
	if extreme == 0 {
		starts[0] = factors{}
		return 1
	}
	var costs [maxStarts]float64
	n := 0
	for _, end := range [2]int{f.scaleMax, f.scaleMin} {
		if end == 0 {
			continue
		}
		for step := range scanSteps {
			_, d := half(extreme / (float64(end) * scanRatio(step)))
			if d == 0 {
				d = math.Copysign(0x1p-24, extreme*float64(end))
			}
			cost := 0.0
			for i, s := range scales[:f.parts] {
				off := float64(d*f.roundScale(s/d)) - s
				cost += float64(curvature[i] * off * off)
			}
			n = insert(starts, &costs, n, f.tries, factors{d: d}, cost)
		}
	}
	return n
}

// scanRatio returns the part of the range of integers that the largest scale takes in a step.
func scanRatio(step int) float64 {
	return 1/scanFrom + (1/scanTo-1/scanFrom)*float64(step)/(scanSteps-1)
}

// insert keeps the limit cheapest of the starts in order. It returns how many there are.
func insert(starts *[maxStarts]factors, costs *[maxStarts]float64, n, limit int, s factors, cost float64) int {
	at := n
	for at > 0 && costs[at-1] > cost {
		at--
	}
	if at == limit {
		return n
	}
	if at > 0 && starts[at-1] == s {
		return n
	}
	n = min(n+1, limit)
	copy(starts[at+1:n], starts[at:])
	copy(costs[at+1:n], costs[at:])
	starts[at], costs[at] = s, cost
	return n
}

// startMin finds the best factor of the mins, given that of the scales.
func (f *fitter) startMin(d float64) float64 {
	var offsets [maxSubs]float64
	extreme := 0.0
	for i := range f.parts {
		p := &f.of[i]
		scale := 0.0
		if d != 0 {
			scale = d * f.roundScale(p.grid.scale/d)
		}
		offsets[i] = f.offset(p, p.m, scale)
		extreme = max(extreme, offsets[i])
	}
	if extreme == 0 {
		return 0
	}
	best, least := 0.0, math.Inf(1)
	for step := range scanSteps {
		_, dmin := half(extreme / (float64(f.minMax) * scanRatio(step)))
		if dmin == 0 {
			dmin = 0x1p-24
		}
		cost := 0.0
		for i, o := range offsets[:f.parts] {
			off := float64(dmin*min(math.RoundToEven(o/dmin), float64(f.minMax))) - o
			cost += float64(f.of[i].sw * off * off)
		}
		if cost < least {
			best, least = dmin, cost
		}
	}
	return best
}
