package gate

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

type intervalFixtures struct {
	Cases []struct {
		Name                            string
		Weights, Values                 []float64
		Confidence, Mean, SE, Low, High float64
		Batches                         int
	}
	Long struct {
		Weights, Values []float64
		Mean, HAC, HC1  float64
	}
}

func readFixtures(t *testing.T) *intervalFixtures {
	t.Helper()
	data, err := os.ReadFile("testdata/intervals.json")
	if err != nil {
		t.Fatal(err)
	}
	f := &intervalFixtures{}
	if err := json.Unmarshal(data, f); err != nil || len(f.Cases) < 7 {
		t.Fatalf("%d cases: %v", len(f.Cases), err)
	}
	return f
}

// Means and intervals are those of statsmodels' cluster-robust covariance and scipy's
// quantiles; scripts/make_gate_fixtures.py made the file.
func TestMeanIntervalAgainstStatsmodels(t *testing.T) {
	for _, c := range readFixtures(t).Cases {
		got, err := MeanInterval(c.Weights, c.Values, c.Confidence)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		for _, x := range []struct {
			what      string
			got, want float64
		}{{"mean", got.Mean, c.Mean}, {"se", got.SE, c.SE}, {"low", got.Low, c.Low}, {"high", got.High, c.High}} {
			if !(math.Abs(x.got-x.want) <= 1e-9*(math.Abs(c.Mean)+c.SE)) {
				t.Errorf("%s: %s is %v; statsmodels has %v", c.Name, x.what, x.got, x.want)
			}
		}
		if got.Windows != len(c.Values) || got.Batches != c.Batches || got.Confidence != c.Confidence {
			t.Errorf("%s: %+v", c.Name, got)
		}
	}
}

// On a long autocorrelated series the standard error agrees with the estimator of Newey and
// West, which sums autocovariances, and not with that of independent windows. With 49
// batches the relative standard deviation of the estimate is 1/√96, 10 %.
func TestStandardErrorAgainstHAC(t *testing.T) {
	long := readFixtures(t).Long
	got, err := MeanInterval(long.Weights, long.Values, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got.Mean-long.Mean) > 1e-12 || math.Abs(got.SE/long.HAC-1) > 0.2 || got.SE < 1.3*long.HC1 {
		t.Errorf("mean %v, standard error %v; statsmodels has %v, %v with HAC and %v with HC1", got.Mean, got.SE, long.Mean, long.HAC, long.HC1)
	}
}

// noise draws innovations of mean 0.
var noise = map[string]func(*rand.Rand) float64{
	"normal": func(r *rand.Rand) float64 { return r.NormFloat64() },
	"t3": func(r *rand.Rand) float64 { // Student's t with 3 degrees of freedom
		a, b, c := r.NormFloat64(), r.NormFloat64(), r.NormFloat64()
		return r.NormFloat64() / math.Sqrt((a*a+b*b+c*c)/3)
	},
	"exponential": func(r *rand.Rand) float64 { return r.ExpFloat64() - 1 },
	"log-normal": func(r *rand.Rand) float64 { // σ = 1.2, skewness 11
		const sigma = 1.2
		return math.Exp(sigma*r.NormFloat64()) - math.Exp(sigma*sigma/2)
	},
}

// coverage simulates series of n windows of mean 0, autoregressive of order 1, with unequal
// weights, and returns the shares of two-sided intervals and of upper bounds that hold it.
func coverage(t *testing.T, kind string, rho float64, n, trials int) (both, upper float64) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(n), math.Float64bits(rho)))
	w, x := make([]float64, n), make([]float64, n)
	for range trials {
		v := 0.0
		for range 30 { // towards the stationary distribution
			v = rho*v + noise[kind](r)
		}
		for i := range x {
			v = rho*v + noise[kind](r)
			x[i], w[i] = v, float64(64+r.IntN(192))
		}
		iv, err := MeanInterval(w, x, 0.95)
		if err != nil {
			t.Fatal(err)
		}
		if iv.High >= 0 {
			upper++
			if iv.Low <= 0 {
				both++
			}
		}
	}
	return both / float64(trials), upper / float64(trials)
}

// The interval holds the true mean about as often as it says, on windows that depend on
// their neighbours. Nominal are 0.95 for both ends and 0.975 for the upper one; the bounds
// here are what short series are known to lose (docs/ci.md), less three standard deviations
// of the count. With -v the test prints the table of docs/ci.md.
func TestIntervalCovers(t *testing.T) {
	const trials = 2000
	least := map[string]map[int][2]float64{ // of both ends and of the upper end, at the strongest dependence
		"normal":      {8: {0.82, 0.90}, 16: {0.88, 0.94}, 32: {0.90, 0.95}, 64: {0.91, 0.955}, 128: {0.92, 0.96}, 500: {0.93, 0.96}},
		"t3":          {8: {0.82, 0.90}, 16: {0.88, 0.94}, 32: {0.90, 0.95}, 64: {0.91, 0.955}, 128: {0.92, 0.95}, 500: {0.93, 0.96}},
		"exponential": {8: {0.78, 0.82}, 16: {0.86, 0.88}, 32: {0.89, 0.91}, 64: {0.90, 0.93}, 128: {0.91, 0.94}, 500: {0.925, 0.955}},
		"log-normal":  {8: {0.68, 0.71}, 16: {0.79, 0.80}, 32: {0.81, 0.83}, 64: {0.835, 0.845}, 128: {0.865, 0.875}, 500: {0.90, 0.905}},
	}
	for _, kind := range []string{"normal", "t3", "exponential", "log-normal"} {
		for _, rho := range []float64{0, 0.2, 0.4, 0.6} {
			line := ""
			for _, n := range []int{8, 16, 32, 64, 128, 500} {
				both, upper := coverage(t, kind, rho, n, trials)
				line += fmt.Sprintf(" | %.1f, %.1f", 100*both, 100*upper)
				want := least[kind][n]
				if both < want[0] || upper < want[1] || both > 0.98 {
					t.Errorf("%s, ρ %g, %d windows: both ends hold the mean in %.3f, the upper end in %.3f of the trials; least are %v", kind, rho, n, both, upper, want)
				}
			}
			t.Logf("%s | %g%s |", kind, rho, line)
		}
	}
}

func TestMeanIntervalOfEqualValues(t *testing.T) {
	w, x := make([]float64, MinWindows), make([]float64, MinWindows)
	for i := range w {
		w[i], x[i] = float64(i+1), 0.25
	}
	iv, err := MeanInterval(w, x, 0.95)
	if err != nil || iv.Mean != 0.25 || iv.Low != 0.25 || iv.High != 0.25 {
		t.Errorf("%+v, %v", iv, err)
	}
	if _, err := MeanInterval(w[:7], x[:7], 0.95); err == nil {
		t.Error("no error for seven windows")
	}
	if _, err := MeanInterval(w[:7], x, 0.95); err == nil {
		t.Error("no error for seven weights of eight windows")
	}
	for _, bad := range [][2]float64{{0, 1}, {-1, 1}, {math.NaN(), 1}, {math.Inf(1), 1}, {1, math.NaN()}, {1, math.Inf(-1)}} {
		w[3], x[3] = bad[0], bad[1]
		if _, err := MeanInterval(w, x, 0.95); err == nil {
			t.Errorf("no error for weight %v and value %v", bad[0], bad[1])
		}
	}
}
