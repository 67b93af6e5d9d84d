package recovery

import "math"

// learningRate returns the rate of step t of steps, both counted from 1: a linear warm-up
// over the share warmup of the steps to the peak rate, then half a cosine down to zero
// (Loshchilov and Hutter 2017, arXiv:1608.03983). Zero would be reached one step after the
// last, so that every step changes the weights.
func learningRate(t, steps int64, peak, warmup float64) float64 {
	rise := int64(math.Ceil(max(warmup, 0) * float64(steps)))
	if t <= rise {
		return peak * float64(t) / float64(rise)
	}
	x := float64(t-rise) / float64(steps-rise+1)
	return peak * 0.5 * (1 + math.Cos(math.Pi*x))
}
