package sensitivity

import (
	"context"

	"afmq/pkg/fault"
)

// Method says how a score is computed. All of them take a module's palettes at a width,
// with the tables that leave the least squared error, as what replaces it.
type Method string

const (
	// KL measures: the mean divergence KL(model ‖ model with the one module replaced)
	// over the calibration tokens, in nats per token. One pass through the rest of the
	// model for each module and width.
	KL Method = "kl"
	// Fisher predicts that divergence from one backward pass: ½·E[(g·ΔW·x)²] in nats per
	// token, with x the module's input and g the gradient at its output of -log p(y), y
	// drawn from the model itself at every position. E[g·gᵀ] over such draws is the
	// Fisher information, which is the curvature of the divergence (Martens, "New insights
	// and perspectives on the natural gradient method", 2014).
	Fisher Method = "fisher"
	// Hessian is the squared error of the module's output, E‖ΔW·x‖².
	Hessian Method = "hessian"
	// Weight is the squared error of the weights, ‖ΔW‖². It needs no text.
	Weight Method = "weight"
)

// DefaultMethod is the default.
const DefaultMethod = Fisher

// ParseMethod returns the method called name.
func ParseMethod(name string) (Method, error) {
	switch m := Method(name); m {
	case KL, Fisher, Hessian, Weight:
		return m, nil
	}
	return "", fault.Usagef("method %q is unknown; there are kl, fisher, hessian and weight", name)
}

// NeedsText reports whether the method looks at calibration text.
func (m Method) NeedsText() bool { return m != Weight }

// estimator computes scores in units of work that can be done in any order, each once;
// what they give for a module and a width adds up.
type estimator interface {
	units() int
	// run does one unit. Unit by unit, results depend on nothing but the job.
	run(ctx context.Context, unit int) ([]contribution, error)
}

// contribution is a part of the cost of one module at one width, by their indices.
type contribution struct {
	Module int     `json:"module"`
	Option int     `json:"option"`
	Cost   float64 `json:"cost"`
}

// newEstimator returns the estimator of a method.
func newEstimator(method Method, w *scorer) estimator {
	switch method {
	case KL:
		return &klEstimator{w: w}
	case Hessian:
		return &hessianEstimator{w: w}
	case Weight:
		return &weightEstimator{w: w}
	}
	return newFisherEstimator(w)
}
