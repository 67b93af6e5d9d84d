package sensitivity

import (
	"testing"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
)

// TestScoresIndependentOfArithmetic: the scores are of the palettes, not of the rounding of
// the model's products. At 8 bits, where the palettes change the model least, those with bf16
// products agree with those in float32; the method that cannot achieve that refuses bf16, and
// its measurement for --validate is the one in float32.
func TestScoresIndependentOfArithmetic(t *testing.T) {
	for _, method := range []Method{Fisher, Hessian} {
		exact, rounded := options(t, method, 8), options(t, method, 8)
		exact.Validate, rounded.Validate = 2, 2
		rounded.Calibration, rounded.Compute = exact.Calibration, compute.BF16
		want, got := score(t, 2, exact), score(t, 2, rounded)
		sumWant, sumGot := 0.0, 0.0 // a label drawn otherwise changes single modules by a fifth
		for i, m := range want.Modules {
			sumWant, sumGot = sumWant+m.Costs[0], sumGot+got.Modules[i].Costs[0]
		}
		if ratio := sumGot / sumWant; !(ratio > 0.95 && ratio < 1.05) {
			t.Errorf("%s at 8 bits: the sum is %v with bf16, %v in float32", method, sumGot, sumWant)
		}
		for i, m := range want.Validation.Modules {
			if got.Validation.Modules[i].Measured[0] != m.Measured[0] {
				t.Errorf("%s measured as %v, in float32 as %v", m.Name, got.Validation.Modules[i].Measured[0], m.Measured[0])
			}
		}
	}
	o := options(t, KL, 8)
	o.Compute = compute.BF16
	_, err := Score(bg, o)
	wantFault(t, err, fault.Usage, "kl", "bf16")
}
