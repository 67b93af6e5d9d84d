package gate

import (
	"math"
	"sort"
)

// Outcome is the result of a test of non-inferiority.
type Outcome string

const (
	// NoWorse: the interval's upper end is within the limit.
	NoWorse Outcome = "no_worse"
	// Worse: the interval's lower end is above the limit.
	Worse Outcome = "worse"
	// Inconclusive: the limit lies inside the interval. The text is too short to decide.
	Inconclusive Outcome = "inconclusive"
)

// Against tests the mean against a limit.
func (iv Interval) Against(limit float64) Outcome {
	switch {
	case iv.High <= limit:
		return NoWorse
	case iv.Low > limit:
		return Worse
	}
	return Inconclusive
}

// Needed estimates the length of text that decides a test which was inconclusive.
type Needed struct {
	Outcome Outcome `json:"outcome"` // what the longer text would show: NoWorse or Worse
	Windows int     `json:"windows"` // in all, not in addition
	Tokens  int     `json:"tokens"`  // scored, in all windows
}

// maxNeeded bounds the estimate. A text of more windows is as good as unavailable.
const maxNeeded = 1 << 30

// Need returns the smallest number of windows at which the interval would exclude the limit
// if the mean and the variability of the windows stayed as they were measured: its upper end
// would be within the limit, or, for a mean above the limit, its lower end above it. Both
// are estimates, so a text of that length decides about every other time. perWindow is the
// mean number of scored tokens in a window. Need returns nil where the outcome is not
// [Inconclusive] and where the mean is so near to the limit that 2³⁰ windows would not do.
func (iv Interval) Need(limit, perWindow float64) *Needed {
	if iv.Against(limit) != Inconclusive {
		return nil
	}
	gap := math.Abs(limit - iv.Mean)
	decides := func(n int) bool {
		half := quantile(batches(n), iv.Confidence) * iv.SE * math.Sqrt(float64(iv.Windows)/float64(n))
		return half <= gap
	}
	if iv.Windows >= maxNeeded || !decides(maxNeeded) {
		return nil
	}
	first := iv.Windows + 1
	n := first + sort.Search(maxNeeded-first, func(i int) bool { return decides(first + i) })
	out := &Needed{Outcome: NoWorse, Windows: n, Tokens: int(math.Ceil(float64(n) * perWindow))}
	if iv.Mean > limit {
		out.Outcome = Worse
	}
	return out
}
