package gate

import (
	"fmt"
	"math"

	"afmq/pkg/fault"
)

// Quantity names what a check judges. It is the check's name in JSON.
type Quantity string

const (
	NatsRise       Quantity = "nats_rise"       // rise of the loss over the baseline, nats per token
	KLRise         Quantity = "kl_rise"         // rise of the divergence over the baseline's, nats per token
	KL             Quantity = "kl"              // mean divergence from the reference, nats per token
	PerplexityRise Quantity = "perplexity_rise" // rise of the loss over the reference, nats per token
	Bytes          Quantity = "bytes"           // size of model.safetensors
	BPW            Quantity = "bpw"             // bits per weight of the projections
)

// Check is one limit and the outcome for it.
type Check struct {
	Name    Quantity `json:"name"`
	Unit    string   `json:"unit"`
	Value   float64  `json:"value"` // compared with the limit: of a mean its interval's upper end
	Limit   float64  `json:"limit"`
	Outcome Outcome  `json:"outcome"`
	Passed  bool     `json:"passed"` // the outcome is NoWorse
	// Interval is that of a mean over windows; nil for a size.
	Interval *Interval `json:"interval"`
	// Needed is the estimated length of text that decides; nil unless the outcome is
	// Inconclusive, and where there is no estimate.
	Needed  *Needed `json:"needed"`
	Message string  `json:"message"` // one line for people
}

const nats = "nats per token"

// CheckMean tests whether the mean of values, one for each window of a text in its order,
// in nats per token, is at most limit; tokens are the scored tokens of the windows, which
// weight them. The test is that of [Interval.Against] at [Confidence]. For [PerplexityRise]
// the message gives e^x−1 in per cent; values and limit are in nats there, too.
//
// A limit that is not above 0 is a fault.Usage: no finite text can show that a mean is at
// most 0 when it is 0. Fewer than [MinWindows] windows are a fault.Input without a file.
func CheckMean(q Quantity, tokens []int, values []float64, limit float64) (Check, error) {
	iv, err := measure(q, tokens, values)
	if err != nil {
		return Check{}, err
	}
	return checkInterval(q, tokens, iv, limit)
}

// measure returns the interval of the mean of values.
func measure(q Quantity, tokens []int, values []float64) (*Interval, error) {
	if len(values) < MinWindows {
		return nil, fault.Inputf("", "%d windows are too few to judge %s; %d are needed", len(values), q, MinWindows).
			WithHint("%s", longer)
	}
	weights := make([]float64, len(tokens))
	for i, n := range tokens {
		weights[i] = float64(n)
	}
	iv, err := MeanInterval(weights, values, Confidence)
	if err != nil {
		return nil, fault.Inputf("", "%s: %v", q, err)
	}
	return &iv, nil
}

// longer is the hint where a text has too few windows.
const longer = "score a longer text, or take a smaller --ctx"

// checkInterval tests a measured mean against a limit.
func checkInterval(q Quantity, tokens []int, iv *Interval, limit float64) (Check, error) {
	if !(limit > 0) || math.IsInf(limit, 0) {
		return Check{}, fault.Usagef("the limit %v of %s is not a number above 0", limit, q)
	}
	scored := 0
	for _, n := range tokens {
		scored += n
	}
	c := Check{Name: q, Unit: nats, Value: iv.High, Limit: limit, Outcome: iv.Against(limit), Interval: iv}
	c.Passed = c.Outcome == NoWorse
	c.Needed = iv.Need(limit, float64(scored)/float64(len(tokens)))
	c.Message = c.describe()
	return c, nil
}

// describe returns the message of a check of a mean.
func (c *Check) describe() string {
	what, format, unit := "", func(x float64) string { return fmt.Sprintf("%+.4g", x) }, " "+nats
	switch c.Name {
	case NatsRise:
		what = "loss changed by"
	case KLRise:
		what = "divergence from the reference changed by"
	case KL:
		what = "mean divergence from the reference is"
		format = func(x float64) string { return fmt.Sprintf("%.4g", x) }
	case PerplexityRise:
		what, unit = "perplexity changed by", " %"
		format = func(x float64) string { return fmt.Sprintf("%+.4g", 100*math.Expm1(x)) }
	}
	limit := fmt.Sprintf("%.6g%s", c.Limit, unit)
	if c.Name == PerplexityRise {
		limit = fmt.Sprintf("%.4g%s", 100*math.Expm1(c.Limit), unit)
	}
	iv := c.Interval
	text := fmt.Sprintf("%s %s%s (%.0f %% interval %s to %s, %d windows in %d batches); the limit is %s",
		what, format(iv.Mean), unit, 100*iv.Confidence, format(iv.Low), format(iv.High), iv.Windows, iv.Batches, limit)
	return text + c.advise()
}

// advise says how much text would decide a check that is inconclusive.
func (c *Check) advise() string {
	switch {
	case c.Outcome != Inconclusive:
		return ""
	case c.Needed == nil:
		return ". The mean is so near to the limit that more text would hardly decide it"
	case c.Needed.Outcome == Worse:
		return fmt.Sprintf(". The mean is above the limit; about %d windows (%d tokens) would show it worse if the mean stays the same", c.Needed.Windows, c.Needed.Tokens)
	}
	return fmt.Sprintf(". About %d windows (%d tokens) would show it no worse if the mean stays the same", c.Needed.Windows, c.Needed.Tokens)
}

// checkSize compares a size, which is known exactly, with its limit.
func checkSize(q Quantity, unit string, value, limit float64, message string) Check {
	c := Check{Name: q, Unit: unit, Value: value, Limit: limit, Outcome: NoWorse, Passed: value <= limit, Message: message}
	if !c.Passed {
		c.Outcome = Worse
	}
	return c
}
