package sensitivity

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
)

// validate measures the divergence of some modules, drawn without repetition, and compares
// it with the scores.
func (j *scoreJob) validate(ctx context.Context, s *scorer, log *unitLog, scores *Scores) (*Validation, error) {
	r := rand.New(rand.NewPCG(uint64(j.seed()), 1))
	picks := r.Perm(len(scores.Modules))[:min(j.opts.Validate, len(scores.Modules))]
	slices.Sort(picks)
	units := slices.Clone(picks)
	for i := range scores.Ends {
		units = append(units, len(scores.Modules)+i)
	}
	// bf16 has a noise floor that exceeds the divergence of 6 and 8 bits; see klEstimator.
	models := s.models
	if models.Arithmetic() == compute.BF16 {
		models = s.pool
	}
	resumed := 0
	measured, err := j.runUnits(ctx, s, &klEstimator{scorer: s, models: models}, log, true, units, &resumed)
	if err != nil {
		return nil, err
	}
	v := &Validation{}
	for _, p := range picks {
		v.Modules = append(v.Modules, ValidatedModule{scores.Modules[p].Name, measured[p]})
	}
	for i := range scores.Ends {
		v.Ends = append(v.Ends, ValidatedModule{scores.Ends[i].Name, measured[len(scores.Modules)+i]})
	}
	for o, w := range scores.Widths() {
		var a, b []float64
		sumA, sumB := 0.0, 0.0
		for _, p := range picks {
			a, b = append(a, scores.Modules[p].Costs[o]), append(b, measured[p][o])
			sumA, sumB = sumA+a[len(a)-1], sumB+b[len(b)-1]
		}
		vb := ValidatedBits{Bits: w.Bits}
		if w.Form != artifact.Palette {
			vb.Form = w.Form
		}
		if rho := spearman(a, b); !math.IsNaN(rho) {
			vb.Spearman = rho
		}
		if (scores.Method == Fisher || scores.Method == KL) && sumB > 0 {
			vb.Ratio = sumA / sumB
		}
		v.ByBits = append(v.ByBits, vb)
	}
	return v, nil
}
