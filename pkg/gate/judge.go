package gate

import (
	"errors"
	"fmt"

	"afmq/pkg/fault"
)

// Confidence of the two-sided intervals. Each end is a one-sided bound of 97.5 %.
const Confidence = 0.95

// DefaultNats is the margin for a rise of the loss where none is given, in nats per token:
// about 1 % of perplexity, e^0.01 = 1.01005.
const DefaultNats = 0.01

// Verdict is the result of judging a model.
type Verdict struct {
	// Outcome is Worse if that of any check is, otherwise Inconclusive if that of any check
	// is, otherwise NoWorse.
	Outcome Outcome `json:"outcome"`
	Passed  bool    `json:"passed"` // the outcome is NoWorse
	Checks  []Check `json:"checks"` // one for each limit
	// Nats and KL are the rise over the baseline: the mean over the windows, each weighted
	// by its scored tokens, of the difference, in nats per token. Nil without a baseline,
	// and KL where either side has no reference.
	Nats *Interval `json:"nats_rise"`
	KL   *Interval `json:"kl_rise"`
}

// Failures returns the messages of the checks that did not pass, those of Worse first.
func (v *Verdict) Failures() []string {
	var out []string
	for _, o := range []Outcome{Worse, Inconclusive} {
		for _, c := range v.Checks {
			if c.Outcome == o {
				out = append(out, c.Message)
			}
		}
	}
	return out
}

// Combine returns the outcome of several checks; see [Verdict].
func Combine(checks []Check) Outcome {
	out := NoWorse
	for _, c := range checks {
		if c.Outcome == Worse {
			return Worse
		}
		if c.Outcome == Inconclusive {
			out = Inconclusive
		}
	}
	return out
}

// Judge tests the figures of a model, now, against limits and, where base is not nil,
// against those of a baseline with an equal setting (see [Setting.Differs]). baseFile is
// the file that errors of kind [fault.Input] name. A limit that is not a finite number above
// 0, or that limits a figure that now does not have, is an error of kind [fault.Usage].
func Judge(baseFile string, base, now *Baseline, l Limits) (*Verdict, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	if l.divergence() && now.KLMean == nil {
		return nil, fault.Usagef("a limit of the divergence needs a reference")
	}
	if l.BPW != nil && now.Model.BPW == nil {
		return nil, fault.Usagef("a limit of the bits per weight needs an artifact")
	}
	v := &Verdict{Checks: []Check{}}
	if base != nil {
		if err := v.compare(baseFile, base, now, l); err != nil {
			return nil, inFile(baseFile, err)
		}
	}
	if l.KL != nil {
		c, err := CheckMean(KL, now.tokens(), now.column(windowKL), *l.KL)
		if err != nil {
			return nil, inFile(baseFile, err)
		}
		v.Checks = append(v.Checks, c)
	}
	if l.Bytes != nil {
		v.Checks = append(v.Checks, checkSize(Bytes, "bytes", float64(now.Model.Bytes), float64(*l.Bytes),
			fmt.Sprintf("model.safetensors has %d bytes; the limit is %d", now.Model.Bytes, *l.Bytes)))
	}
	if l.BPW != nil {
		bpw := *now.Model.BPW
		v.Checks = append(v.Checks, checkSize(BPW, "bits per weight", bpw, *l.BPW,
			fmt.Sprintf("the projections take %.4f bits per weight; the limit is %g", bpw, *l.BPW)))
	}
	v.Outcome = Combine(v.Checks)
	v.Passed = v.Outcome == NoWorse
	return v, nil
}

// inFile names the file in an error that names none.
func inFile(file string, err error) error {
	var f *fault.Error
	if errors.As(err, &f) && f.Kind == fault.Input && f.File == "" {
		named := *f
		named.File = file
		return &named
	}
	return err
}

// compare pairs the windows of both and checks the rises.
func (v *Verdict) compare(file string, base, now *Baseline, l Limits) error {
	if len(base.Windows) != len(now.Windows) {
		return fault.Inputf(file, "records %d windows; the text now gives %d", len(base.Windows), len(now.Windows))
	}
	for i, w := range now.Windows {
		if then := base.Windows[i].Tokens; then != w.Tokens {
			return fault.Inputf(file, "records %d scored tokens in window %d; the text now gives %d", then, i+1, w.Tokens)
		}
	}
	c, err := CheckMean(NatsRise, now.tokens(), minus(now.column(windowNats), base.column(windowNats)), l.nats())
	if err != nil {
		return err
	}
	v.Nats = c.Interval
	v.Checks = append(v.Checks, c)
	if base.KLMean == nil || now.KLMean == nil {
		if l.KLRise != nil {
			return fault.Inputf(file, "records no divergence that a rise could be measured against").
				WithHint("record it again with --update, --reference and --accept-worse")
		}
		return nil
	}
	return v.compareKL(base, now, l.KLRise)
}

// compareKL measures the rise of the divergence and checks it where there is a limit.
func (v *Verdict) compareKL(base, now *Baseline, limit *float64) error {
	tokens := now.tokens()
	iv, err := measure(KLRise, tokens, minus(now.column(windowKL), base.column(windowKL)))
	if err != nil {
		return err
	}
	v.KL = iv
	if limit == nil {
		return nil
	}
	c, err := checkInterval(KLRise, tokens, iv, *limit)
	if err == nil {
		v.Checks = append(v.Checks, c)
	}
	return err
}

func minus(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}
