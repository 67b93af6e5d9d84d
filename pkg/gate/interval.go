package gate

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// MinWindows is the smallest number of windows that a mean is judged on.
const MinWindows = 8

// minBatches keeps three degrees of freedom for the shortest texts.
const minBatches = 4

// Interval is the mean of a quantity over the windows of a text with its two-sided
// confidence interval, in nats per token.
type Interval struct {
	Mean       float64 `json:"mean"`
	SE         float64 `json:"se"`         // standard error of the mean
	Low        float64 `json:"low"`        // lower end
	High       float64 `json:"high"`       // upper end
	Confidence float64 `json:"confidence"` // two-sided, such as 0.95
	Windows    int     `json:"windows"`
	Batches    int     `json:"batches"` // degrees of freedom of Student's t plus one
}

// MeanInterval returns the mean of x weighted by w, D = Σ w·x / Σ w, and its confidence
// interval. The values are those of consecutive windows, in the order of the text, and may
// depend on their neighbours: the windows are cut into a = max(4, √n rounded) batches of
// consecutive windows, equal in number up to one, and the standard error is
//
//	√( a/(a−1) · Σ_batches (Σ_batch w·(x−D))² ) / Σ w.
//
// This is the method of nonoverlapping batch means with batches of √n observations (Flegal
// and Jones, "Batch means and spectral variance estimators in Markov chain Monte Carlo",
// Annals of Statistics 38, 2010) for a ratio of sums (Cochran, "Sampling Techniques", 3rd
// ed., 6.4), which statisticians also know as the cluster-robust variance with batches as
// clusters. The interval takes Student's t with a−1 degrees of freedom.
//
// Fewer than [MinWindows] values, a value that is not finite and a weight that is not
// positive are errors.
func MeanInterval(w, x []float64, confidence float64) (Interval, error) {
	n := len(x)
	if n < MinWindows || len(w) != n {
		return Interval{}, fmt.Errorf("an interval needs %d windows or more, each with a weight; there are %d windows and %d weights", MinWindows, n, len(w))
	}
	var sum, weight float64
	for i, v := range x {
		if !(w[i] > 0) || math.IsInf(w[i], 0) || math.IsNaN(v) || math.IsInf(v, 0) {
			return Interval{}, fmt.Errorf("window %d has the value %v and the weight %v", i+1, v, w[i])
		}
		sum += w[i] * v
		weight += w[i]
	}
	mean, a := sum/weight, batches(n)
	var squares float64
	for g := range a {
		var batch float64
		for i := g * n / a; i < (g+1)*n/a; i++ {
			batch += w[i] * (x[i] - mean)
		}
		squares += batch * batch
	}
	out := Interval{Mean: mean, Confidence: confidence, Windows: n, Batches: a}
	out.SE = math.Sqrt(float64(a)/float64(a-1)*squares) / weight
	half := quantile(a, confidence) * out.SE
	out.Low, out.High = mean-half, mean+half
	return out, nil
}

// batches returns the number of batches of n windows. It never falls as n grows, so that a
// longer text never widens the interval by itself.
func batches(n int) int {
	return max(minBatches, int(math.Round(math.Sqrt(float64(n)))))
}

// quantile returns the factor of the standard error for a two-sided interval.
func quantile(batches int, confidence float64) float64 {
	return distuv.StudentsT{Sigma: 1, Nu: float64(batches - 1)}.Quantile((1 + confidence) / 2)
}
