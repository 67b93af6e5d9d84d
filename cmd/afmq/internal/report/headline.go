package report

import (
	"fmt"
	"math"

	"afmq/internal/units"
	"afmq/pkg/gate"
)

// headline states the main figures in sentences: size, bits per weight and, if the artifact was
// evaluated, the change of perplexity and the divergence with its uncertainty.
func (d *Summary) headline(name string) string {
	text := fmt.Sprintf("%s takes %s, down from %s: %.3f bits per weight in projections, %.3f in the whole model", name, units.Size(d.Bytes), units.Size(d.Source), d.BPW.Projections, d.BPW.Model)
	e := d.Evaluation
	switch {
	case e == nil:
		return text + "."
	case e.Comparison == nil:
		return text + fmt.Sprintf("; its perplexity on %s is %.3f ± %.3f.", d.Setting.Data, e.Perplexity, e.PerplexitySE)
	}
	text += fmt.Sprintf("; on %s its perplexity is %.3f, %s the source's %.3f, and its KL divergence from the source is %s nats per token", d.Setting.Data, e.Perplexity, rise(e.PerplexityRatio), e.ReferencePerplexity, plusMinus(e.KL.Mean, d.KLInterval))
	if iv := d.KLInterval; iv != nil {
		text += fmt.Sprintf(" (%.0f %% interval over %d windows)", 100*iv.Confidence, iv.Windows)
	}
	text += "."
	if a := d.bestAdapter(); a != nil {
		x := a.Evaluation
		text += fmt.Sprintf(" With adapter %s, %s more, the perplexity is %.3f, %s the source's, and the divergence is %s.", a.Adapter, units.Size(a.Bytes-d.Bytes), x.Perplexity, rise(x.PerplexityRatio), plusMinus(x.KL.Mean, a.KLInterval))
	}
	return text
}

// bestAdapter returns the row of the adapter with the smallest divergence among the models of the
// summary, nil without one.
func (d *Summary) bestAdapter() *EvalRow {
	var best *EvalRow
	for i := range d.Models {
		r := &d.Models[i]
		if r.This && r.Adapter != "" && r.Evaluation.Comparison != nil && (best == nil || r.Evaluation.KL.Mean < best.Evaluation.KL.Mean) {
			best = r
		}
	}
	return best
}

// rise describes the change of a perplexity, given its ratio to that of the reference.
func rise(ratio float64) string {
	word := "above"
	if ratio < 1 {
		word = "below"
	}
	return fmt.Sprintf("%.2f %% %s", 100*math.Abs(ratio-1), word)
}

// plusMinus formats a mean with half the width of its interval, which may be nil.
func plusMinus(mean float64, iv *gate.Interval) string {
	if iv == nil {
		return nats(mean)
	}
	return nats(mean) + " ± " + nats(half(iv))
}

// uncertainty formats half the width of an interval, which may be nil.
func uncertainty(iv *gate.Interval) string {
	if iv == nil {
		return "mean"
	}
	return fmt.Sprintf("± %s", nats(half(iv)))
}

func half(iv *gate.Interval) float64 { return (iv.High - iv.Low) / 2 }
