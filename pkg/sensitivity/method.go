package sensitivity

import "afmq/pkg/fault"

// Method is a way to estimate the sensitivity of a module. Each replaces the module by its
// palettes at a width, with the look-up tables of least squared error.
type Method string

const (
	// KL measures the mean divergence KL(model ‖ model with the module replaced) over the
	// calibration tokens, in nats per token. It runs the part of the model from the module
	// on, once for each module and width.
	KL Method = "kl"
	// Fisher predicts that divergence from one backward pass: ½·E[(g·ΔW·x)²] in nats per
	// token, where x is the input of the module and g the gradient of -log p(y) with respect
	// to its output, with y drawn from the model at every position. E[g·gᵀ] over such draws
	// is the Fisher information, the curvature of the divergence (Martens, "New insights and
	// perspectives on the natural gradient method", 2014).
	Fisher Method = "fisher"
	// Hessian is the squared error of the output of the module, E‖ΔW·x‖², per token.
	Hessian Method = "hessian"
	// Weight is the squared error of the weights, ‖ΔW‖². It needs no text.
	Weight Method = "weight"
)

// DefaultMethod is the method that is used unless another is named.
const DefaultMethod = Fisher

// ParseMethod returns the method of that name. Errors are fault.Usage.
func ParseMethod(name string) (Method, error) {
	switch m := Method(name); m {
	case KL, Fisher, Hessian, Weight:
		return m, nil
	}
	return "", fault.Usagef("method %q is unknown; the methods are kl, fisher, hessian and weight", name)
}

// NeedsText reports whether the method needs calibration text.
func (m Method) NeedsText() bool { return m != Weight }

// unit returns the unit of the method's scores.
func (m Method) unit() string {
	switch m {
	case KL, Fisher:
		return "nats per token"
	case Hessian:
		return "squared output error per token"
	}
	return "squared weight error"
}
