package eval

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Interval is a mean with a two-sided confidence interval.
type Interval struct {
	Mean       float64 `json:"mean"`
	SE         float64 `json:"se"`         // standard error of the mean
	Low        float64 `json:"low"`        // lower end
	High       float64 `json:"high"`       // upper end
	Confidence float64 `json:"confidence"` // of the interval, such as 0.95
	Windows    int     `json:"windows"`    // independent observations
}

// MeanInterval returns the mean of x weighted by w, D = Σ w·x / Σ w, and its interval of
// Student's t distribution with n−1 degrees of freedom around the standard error
//
//	√( n/(n−1) · Σ w²·(x−D)² ) / Σ w,
//
// that of a ratio of sums over a sample (Cochran, "Sampling Techniques", 3rd ed., 6.4), s/√n
// for equal weights. It takes the x as independent draws of one distribution, whose spread
// may depend on the weight, and their mean as nearly normal. Fewer than two values, and a weight
// that is not positive, are errors.
func MeanInterval(w, x []float64, confidence float64) (Interval, error) {
	n := len(x)
	if n < 2 || len(w) != n {
		return Interval{}, fmt.Errorf("an interval needs at least 2 windows, each with a weight; given %d and %d weights", n, len(w))
	}
	var sum, weight float64
	for i, v := range x {
		if !(w[i] > 0) || !finite(v) {
			return Interval{}, fmt.Errorf("window %d has the value %v and the weight %v", i, v, w[i])
		}
		sum += w[i] * v
		weight += w[i]
	}
	mean := sum / weight
	var squares float64
	for i, v := range x {
		r := w[i] * (v - mean)
		squares += r * r
	}
	out := Interval{Mean: mean, Confidence: confidence, Windows: n}
	out.SE = math.Sqrt(float64(n)/float64(n-1)*squares) / weight
	t := distuv.StudentsT{Sigma: 1, Nu: float64(n - 1)}.Quantile((1 + confidence) / 2)
	out.Low, out.High = mean-t*out.SE, mean+t*out.SE
	return out, nil
}
