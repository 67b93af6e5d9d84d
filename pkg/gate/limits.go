package gate

import (
	"math"

	"afmq/pkg/fault"
)

// Limits are the margins and limits that a model is judged by; nil for none. Every value is
// finite and above 0; means are in nats per token.
type Limits struct {
	Nats   float64  // rise of the loss over the baseline; 0 for DefaultNats
	KLRise *float64 // rise of the mean divergence over the baseline's; see [Options.Update]
	KL     *float64 // mean divergence from the reference
	Bytes  *int64   // size of model.safetensors
	BPW    *float64 // bits per weight of the projections
}

// nats returns the margin for the rise of the loss.
func (l *Limits) nats() float64 {
	if l.Nats == 0 {
		return DefaultNats
	}
	return l.Nats
}

// check returns a fault.Usage error if a limit is not a finite number above 0.
func (l *Limits) check() error {
	margin := l.nats()
	for _, x := range []struct {
		name  Quantity
		value *float64
	}{{NatsRise, &margin}, {KLRise, l.KLRise}, {KL, l.KL}, {BPW, l.BPW}} {
		if x.value != nil && (!(*x.value > 0) || math.IsInf(*x.value, 0)) {
			return fault.Usagef("the limit %v of %s is not a finite number above 0", *x.value, x.name)
		}
	}
	if l.Bytes != nil && *l.Bytes <= 0 {
		return fault.Usagef("the limit %d of %s is not a number above 0", *l.Bytes, Bytes)
	}
	return nil
}

// divergence reports whether a limit concerns the divergence from a reference.
func (l *Limits) divergence() bool { return l.KL != nil || l.KLRise != nil }
