package gate

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// The upper end decides that a model is no worse, the lower end that it is worse.
func TestAgainst(t *testing.T) {
	iv := Interval{Low: 0.004, Mean: 0.006, High: 0.008}
	for limit, want := range map[float64]Outcome{0.008: NoWorse, 0.0079: Inconclusive, 0.006: Inconclusive, 0.004: Inconclusive, 0.0039: Worse} {
		if got := iv.Against(limit); got != want {
			t.Errorf("limit %v: %s; expected %s", limit, got, want)
		}
	}
}

// half is the half width of the interval over n windows by the definition.
func half(iv Interval, n int) float64 {
	df := math.Max(4, math.Round(math.Sqrt(float64(n)))) - 1
	t := distuv.StudentsT{Sigma: 1, Nu: df}.Quantile(0.975)
	return t * iv.SE * math.Sqrt(float64(iv.Windows)/float64(n))
}

// The estimate is the first length at which the interval excludes the limit.
func TestNeed(t *testing.T) {
	for _, c := range []struct {
		mean, se, limit float64
		want            Outcome
	}{
		{0, 0.01, 0.01, NoWorse}, {0.005, 0.004, 0.01, NoWorse}, {-0.02, 0.02, 0.01, NoWorse},
		{0.012, 0.004, 0.01, Worse}, {0.37, 0.3, 0.01, Worse}, {0.0099, 0.004, 0.01, NoWorse},
	} {
		iv := Interval{Mean: c.mean, SE: c.se, Confidence: 0.95, Windows: 20, Batches: 4}
		iv.Low, iv.High = c.mean-half(iv, 20), c.mean+half(iv, 20)
		got := iv.Need(c.limit, 100.5)
		if got == nil || got.Outcome != c.want || got.Tokens != int(math.Ceil(100.5*float64(got.Windows))) {
			t.Errorf("%+v: %+v", c, got)
			continue
		}
		gap := math.Abs(c.limit - c.mean)
		if n := got.Windows; n <= 20 || half(iv, n) > gap || half(iv, n-1) <= gap && n > 21 {
			t.Errorf("%+v: %d windows give %v, one fewer %v; the gap is %v", c, n, half(iv, n), half(iv, n-1), gap)
		}
	}
	near := Interval{Mean: 0.01, SE: 0.001, Low: 0.007, High: 0.013, Confidence: 0.95, Windows: 20}
	if got := near.Need(0.01, 100); got != nil {
		t.Errorf("a mean at the limit: %+v", got)
	}
	if got := near.Need(0.02, 100); got != nil {
		t.Errorf("a test that is decided: %+v", got)
	}
}
