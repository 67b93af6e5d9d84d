package sensitivity

import "context"

// estimator computes scores in units of work, which may run in any order and each run once.
// The contributions of all units to a module and a width add up to its score.
type estimator interface {
	units() int
	unitName() string // of several: "modules"
	// work returns the work of a unit, of which run reports all.
	work(unit int) int64
	// prepare computes what the units share, in a stage of its own. It is called before the
	// first unit runs.
	prepare(ctx context.Context) error
	// run computes one unit. Its result depends only on the job and on the unit.
	run(ctx context.Context, unit int) ([]Contribution, error)
}

// Contribution is a part of the score of one module at one width.
type Contribution struct {
	Module int     `json:"module"` // index into Scores.Modules
	Option int     `json:"option"` // index into Scores.Bits
	Cost   float64 `json:"cost"`
}

// newEstimator returns the estimator of a method.
func newEstimator(method Method, s *scorer) estimator {
	switch method {
	case KL:
		return &klEstimator{scorer: s, models: s.models}
	case Hessian:
		return &hessianEstimator{scorer: s}
	case Weight:
		return &weightEstimator{scorer: s}
	}
	return newFisherEstimator(s)
}
