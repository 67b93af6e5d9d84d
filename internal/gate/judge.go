package gate

import (
	"fmt"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// Confidence of the intervals.
const Confidence = 0.95

// Rounding is how far figures of one model may lie apart on two processors, in nats per
// token: a rise within it is none.
const Rounding = 1e-6

// Limits are what may not be passed; nil for no limit.
type Limits struct {
	Nats   float64  // rise over the baseline, in nats per token, by the interval's lower end
	KLRise *float64 // rise of the divergence over the baseline's, likewise
	KL     *float64 // mean divergence from the reference, nats per token
	Bytes  *int64   // of model.safetensors
	BPW    *float64 // bits per weight of the projections
}

// Verdict is what came of it.
type Verdict struct {
	Passed bool    `json:"passed"`
	Checks []Check `json:"checks"` // one for each limit
	// Nats and KL are the rise over the baseline: the mean over the windows, each weighted
	// by its scored tokens, of the difference, in nats per token. Nil where there is no
	// baseline, and KL where either side has no reference.
	Nats *eval.Interval `json:"nats_rise"`
	KL   *eval.Interval `json:"kl_rise"`
}

// Check is one limit and whether it was passed.
type Check struct {
	Name    string  `json:"name"` // "nats_rise", "kl_rise", "kl", "bytes" or "bpw"
	Unit    string  `json:"unit"`
	Value   float64 `json:"value"` // what the limit is held against
	Limit   float64 `json:"limit"`
	Passed  bool    `json:"passed"` // the value keeps the limit
	Message string  `json:"message"`
}

// Failures returns the messages of the limits that were passed.
func (v *Verdict) Failures() []string {
	var out []string
	for _, c := range v.Checks {
		if !c.Passed {
			out = append(out, c.Message)
		}
	}
	return out
}

// Judge holds the evaluation of a model against limits and, where base is not nil, against
// a baseline of an equal setting (see [Setting.Differs]); baseFile is what errors name,
// which are fault.Input.
func Judge(baseFile string, base *Baseline, e *eval.Result, m Subject, l Limits) (*Verdict, error) {
	v := &Verdict{Passed: true, Checks: []Check{}}
	if base != nil {
		if err := v.compare(baseFile, base, e); err != nil {
			return nil, err
		}
		v.rise("nats_rise", "loss", v.Nats, l.Nats)
		if l.KLRise != nil {
			if v.KL == nil {
				return nil, fault.Inputf(baseFile, "records no divergence that a rise could be measured against").
					WithHint("write it again with --update and --reference")
			}
			v.rise("kl_rise", "divergence from the reference", v.KL, *l.KLRise)
		}
	}
	if l.KL != nil && e.Comparison != nil {
		v.add(Check{Name: "kl", Unit: "nats per token", Value: e.KL.Mean, Limit: *l.KL, Passed: e.KL.Mean <= *l.KL,
			Message: fmt.Sprintf("mean divergence from the reference is %.6g nats per token, the limit is %.6g", e.KL.Mean, *l.KL)})
	}
	if l.Bytes != nil {
		v.add(Check{Name: "bytes", Unit: "bytes", Value: float64(m.Bytes), Limit: float64(*l.Bytes), Passed: m.Bytes <= *l.Bytes,
			Message: fmt.Sprintf("model.safetensors has %d bytes, the limit is %d", m.Bytes, *l.Bytes)})
	}
	if l.BPW != nil && m.BPW != nil {
		v.add(Check{Name: "bpw", Unit: "bits per weight", Value: *m.BPW, Limit: *l.BPW, Passed: *m.BPW <= *l.BPW,
			Message: fmt.Sprintf("projections take %.4f bits per weight, the limit is %g", *m.BPW, *l.BPW)})
	}
	return v, nil
}

func (v *Verdict) add(c Check) {
	v.Checks = append(v.Checks, c)
	v.Passed = v.Passed && c.Passed
}

// rise checks a paired difference by the lower end of its interval.
func (v *Verdict) rise(name, what string, iv *eval.Interval, limit float64) {
	v.add(Check{Name: name, Unit: "nats per token", Value: iv.Low, Limit: limit, Passed: iv.Low <= limit+Rounding,
		Message: fmt.Sprintf("%s changed by %+.6g nats per token (%.0f %% interval %+.6g to %+.6g over %d windows), the limit for its lower end is %g",
			what, iv.Mean, 100*iv.Confidence, iv.Low, iv.High, iv.Windows, limit)})
}

// compare pairs the windows.
func (v *Verdict) compare(file string, base *Baseline, e *eval.Result) error {
	if len(base.Windows) != len(e.Windows) {
		return fault.Inputf(file, "records %d windows; the text now gives %d", len(base.Windows), len(e.Windows))
	}
	var weights, nats, kl []float64
	for i, now := range e.Windows {
		then := base.Windows[i]
		if then.Tokens != now.Tokens {
			return fault.Inputf(file, "records %d scored tokens in window %d; the text now gives %d", then.Tokens, i+1, now.Tokens)
		}
		weights = append(weights, float64(now.Tokens))
		nats = append(nats, now.Nats-then.Nats)
		if then.KL != nil && now.KL != nil {
			kl = append(kl, *now.KL-*then.KL)
		}
	}
	rise := func(x []float64) (*eval.Interval, error) {
		iv, err := eval.MeanInterval(weights, x, Confidence)
		if err != nil {
			return nil, fault.Inputf(file, "%v", err)
		}
		return &iv, nil
	}
	var err error
	if v.Nats, err = rise(nats); err == nil && len(kl) == len(weights) {
		v.KL, err = rise(kl)
	}
	return err
}
