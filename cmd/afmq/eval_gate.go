package main

import (
	"fmt"
	"io"
	"math"

	"github.com/spf13/pflag"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/gate"
)

// evalLimits are the limits of eval-perplexity in nats per token; nil for none.
type evalLimits struct {
	rise *float64 // ln(1 + the rise of --max-ppl-increase, as a share)
	kl   *float64
}

func (l evalLimits) any() bool { return l.rise != nil || l.kl != nil }

// gateResult is the verdict on the limits.
type gateResult struct {
	Outcome  gate.Outcome `json:"outcome"`
	Passed   bool         `json:"passed"`
	Checks   []evalCheck  `json:"checks"`
	Failures []string     `json:"failures,omitempty"`
}

// evalCheck is a limit applied to the model, or to the model with an adapter.
type evalCheck struct {
	Adapter string `json:"adapter,omitempty"`
	gate.Check
}

// limits checks the flags and returns the limits.
func (o *evalOptions) limits(f *pflag.FlagSet) (evalLimits, error) {
	var l evalLimits
	if o.maxPPLIncrease != "" {
		share, err := parseRise("max-ppl-increase", o.maxPPLIncrease)
		if err != nil {
			return l, err
		}
		rise := math.Log1p(share)
		l.rise = &rise
	}
	if f.Changed("max-kl") {
		if err := aboveZero("max-kl", o.maxKL); err != nil {
			return l, err
		}
		l.kl = &o.maxKL
	}
	if l.any() && o.reference == "" {
		return l, fault.Usagef("--max-ppl-increase and --max-kl need --reference")
	}
	return l, nil
}

// judgeEvaluation applies the limits to the model, or to the model with each adapter.
func judgeEvaluation(out *evalObject, l evalLimits) (*gateResult, error) {
	g := &gateResult{}
	if len(out.Adapters) == 0 {
		if err := g.add("", out.Data, out.Result, l); err != nil {
			return nil, err
		}
	}
	for _, a := range out.Adapters {
		if err := g.add(a.Name, out.Data, a.Result, l); err != nil {
			return nil, err
		}
	}
	checks := make([]gate.Check, len(g.Checks))
	for i, c := range g.Checks {
		checks[i] = c.Check
	}
	g.Outcome = gate.Combine(checks)
	g.Passed = g.Outcome == gate.NoWorse
	// The failures of what decides the outcome come first.
	for _, o := range []gate.Outcome{gate.Worse, gate.Inconclusive} {
		for _, c := range g.Checks {
			if c.Outcome == o {
				g.Failures = append(g.Failures, c.label()+c.Message)
			}
		}
	}
	return g, nil
}

// add appends the checks of one evaluation, which has a reference; data is the text that
// errors name.
func (g *gateResult) add(adapter, data string, e *eval.Result, l evalLimits) error {
	n := len(e.Windows)
	if n < gate.MinWindows {
		return fault.Inputf(data, "gives %d of the %d windows that a limit needs, with %d tokens in a window", n, gate.MinWindows, e.Ctx).
			WithHint("score a longer text, or take a smaller --ctx")
	}
	tokens, rise, kl := windowFigures(e)
	for _, x := range []struct {
		quantity gate.Quantity
		values   []float64
		limit    *float64
	}{{gate.PerplexityRise, rise, l.rise}, {gate.KL, kl, l.kl}} {
		if x.limit == nil {
			continue
		}
		c, err := gate.CheckMean(x.quantity, tokens, x.values, *x.limit)
		if err != nil {
			return err
		}
		g.Checks = append(g.Checks, evalCheck{adapter, c})
	}
	return nil
}

// label names the adapter of a check in a line for people.
func (c *evalCheck) label() string {
	if c.Adapter == "" {
		return ""
	}
	return "adapter " + c.Adapter + ": "
}

func printEvalGate(w io.Writer, g *gateResult) {
	for _, c := range g.Checks {
		fmt.Fprintf(w, "%s\t%s: %s%s\n", c.Name, checkWords[c.Outcome], c.label(), c.Message)
	}
	fmt.Fprintf(w, "gate\t%s\n", gateWords[g.Outcome])
}
