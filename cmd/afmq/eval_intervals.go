package main

import (
	"afmq/pkg/eval"
	"afmq/pkg/gate"
)

// evalIntervals are the confidence intervals of a comparison with a reference. Both are nil
// without a reference, and on a text of fewer than gate.MinWindows windows.
type evalIntervals struct {
	KLInterval       *gate.Interval `json:"kl_interval"`        // of KL(reference ‖ model), nats per token
	LossRiseInterval *gate.Interval `json:"loss_rise_interval"` // of the loss less that of the reference, nats per token
}

// newIntervals computes the intervals of an evaluation from its windows.
func newIntervals(e *eval.Result) (out evalIntervals, err error) {
	out.KLInterval, out.LossRiseInterval, err = gate.ComparisonIntervals(e)
	return out, err
}

// windowFigures returns, for every window of an evaluation with a reference, its scored tokens,
// the rise of the loss over that of the reference, and the divergence, in nats per token.
func windowFigures(e *eval.Result) (tokens []int, rise, kl []float64) {
	for _, w := range e.Windows {
		tokens, rise, kl = append(tokens, w.Tokens), append(rise, w.Nats-*w.ReferenceNats), append(kl, *w.KL)
	}
	return tokens, rise, kl
}
