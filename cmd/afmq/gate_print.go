package main

import (
	"fmt"
	"io"

	"afmq/pkg/gate"
)

func printGate(w io.Writer, o *gateObject) error {
	return table(w, func(w io.Writer) {
		s := o.Setting
		protocol := fmt.Sprintf("%s, ctx %d", s.Protocol, s.Ctx)
		if s.Stride > 0 {
			protocol += fmt.Sprintf(", stride %d", s.Stride)
		}
		fmt.Fprintf(w, "%s\t%s, %.16s…\n", o.Model.Kind, whole(o.Artifact), o.Model.Digest)
		fmt.Fprintf(w, "size\t%s", size(o.Model.Bytes))
		if o.Model.BPW != nil {
			fmt.Fprintf(w, ", %.4f bits per weight in projections", *o.Model.BPW)
		}
		fmt.Fprintf(w, "\nscored\t%s tokens in %s windows (%s, %s)\n", thousands(int64(o.Tokens)), thousands(int64(o.Windows)), protocol, s.Compute)
		printRise(w, "nats per token", &o.NatsPerToken, o.BaselineNats, o.Nats)
		printRise(w, "KL to reference, mean", o.KLMean, o.BaselineKL, o.KL)
		if o.Updated {
			fmt.Fprintf(w, "wrote\t%s\n", whole(o.Baseline))
		}
		if o.Accepted && o.BaselineNats == nil {
			fmt.Fprintf(w, "accepted\tthe baseline was replaced without a comparison\n")
		}
		printChecks(w, o.Checks)
		word := gateWords[o.Outcome]
		if len(o.Checks) == 0 {
			word = "nothing to judge: no comparison and no limit"
		}
		fmt.Fprintf(w, "gate\t%s\n", word)
	})
}

// gateWords and checkWords name the outcomes for people.
var (
	gateWords  = map[gate.Outcome]string{gate.NoWorse: "passed", gate.Worse: "FAILED", gate.Inconclusive: "INCONCLUSIVE: not enough text to tell"}
	checkWords = map[gate.Outcome]string{gate.NoWorse: "no worse", gate.Worse: "WORSE", gate.Inconclusive: "NOT ENOUGH TEXT"}
	sizeWords  = map[gate.Outcome]string{gate.NoWorse: "kept", gate.Worse: "EXCEEDED"}
)

func printChecks(w io.Writer, checks []gate.Check) {
	for _, c := range checks {
		words := checkWords
		if c.Interval == nil {
			words = sizeWords
		}
		fmt.Fprintf(w, "%s\t%s: %s\n", c.Name, words[c.Outcome], c.Message)
	}
}

// printRise prints a figure and, where there is a baseline, its change.
func printRise(w io.Writer, name string, now, then *float64, rise *gate.Interval) {
	if now == nil {
		return
	}
	fmt.Fprintf(w, "%s\t%.6f", name, *now)
	if rise != nil {
		fmt.Fprintf(w, ", baseline %.6f: %+.6f, %.0f %% interval %+.6f to %+.6f", *then, rise.Mean, 100*rise.Confidence, rise.Low, rise.High)
	}
	fmt.Fprintln(w)
}
