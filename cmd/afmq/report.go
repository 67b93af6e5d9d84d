package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"afmq/cmd/afmq/internal/report"
	"afmq/internal/disk"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
)

type reportOptions struct {
	out    string
	device deviceFlags
	target targetFlag
	report.Options
}

// reportObject is the JSON object of the command.
type reportObject struct {
	Schema   string           `json:"schema"`
	Artifact string           `json:"artifact"`
	Out      string           `json:"out"`
	Bytes    int              `json:"bytes"`
	Sections []report.Section `json:"sections"`
}

func newReportCommand(a *app) *cobra.Command {
	var o reportOptions
	cmd := &cobra.Command{
		Use:   "report ARTIFACT --out report.html",
		Short: "Write a report on an artifact, one HTML file",
		Long: `Writes one self-contained HTML file, without scripts or network access. It shows the size
of the artifact by part and against its source, the bits of every projection, and its
provenance. These files add sections:

  --scores FILE    sensitivity of each layer (from afmq sensitivity)
  --plan FILE      how the bits were allocated (from afmq plan)
  --eval FILE      divergence against size, and all figures; repeat for each artifact to
                   compare with (from afmq eval-perplexity --json)
  --gate FILE      the verdict (from afmq gate --json)
  --compare FILE   the artifact beside others: size, loss, which are dominated, tasks (from
                   afmq compare --json)
  --recovery DIR   adapters and their training (from afmq recover)
  --reference MODEL
                   the distribution of the original weights of the worst five projections, and
                   sample texts: continuations of a few prompts by the source checkpoint, the
                   artifact, and the best adapter of each --recovery, side by side
  --device NAME    estimated memory and speed on a device; with --scores also of optimal
                   plans with slightly more and fewer bits (afmq devices lists the names)

A section without data names the command that produces it. Every file must belong to the
artifact: scores, plans, gates and recovery runs of another artifact are refused, and so are
evaluations of a model made from another checkpoint. Their content decides, not their paths.
Evaluations on different text, protocol, context or arithmetic are shown separately; those
on text that the model was fitted to are marked, and no summary uses them.`,
		Example: `  afmq report my-3.5bit --out report.html
  afmq report my-3.5bit --eval 3.5.json --eval 4.json --gate gate.json --recovery recovered --reference my-model --out report.html`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Artifact = args[0]
			return runReport(cmd, a, o)
		},
	}
	f := cmd.Flags()
	registerOut(f, &o.out, outFile, "`FILE` to write, which must not exist; - writes the page to standard output")
	f.StringVar(&o.Scores, "scores", "", "scores `FILE` of the checkpoint that the artifact was made from")
	f.StringVar(&o.Plan, "plan", "", "plan `FILE` that the artifact was made by")
	f.StringArrayVar(&o.Evals, "eval", nil, "`FILE` with the JSON output of eval-perplexity; repeatable")
	f.StringArrayVar(&o.Gates, "gate", nil, "`FILE` with the JSON output of gate; repeatable")
	f.StringVar(&o.Compare, "compare", "", "`FILE` with the JSON output of compare, with the artifact among its models")
	f.StringArrayVar(&o.Recoveries, "recovery", nil, "output `DIR` of recover; repeatable")
	f.StringVar(&o.Reference, "reference", "", "checkpoint `MODEL` that the artifact was made from")
	f.StringArrayVar(&o.Samples.Prompts, "sample", nil, "with --reference: continue `TEXT` in place of the built-in prompts; repeatable")
	f.IntVar(&o.Samples.Tokens, "sample-tokens", report.DefaultSampleTokens, "with --reference: `N` tokens of each text, at most")
	o.device.register(f)
	o.target.register(f)
	f.Lookup("target").Usage = "with --device: take devices that have the runtime `TARGET` only: " + strings.Join(target.Names(), ", ")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

func runReport(cmd *cobra.Command, a *app, o reportOptions) error {
	if o.out == "" {
		return fault.Usagef("--out is empty; it names the file to write")
	}
	var err error
	if o.out != standardOutput {
		if err = disk.CheckNew(o.out); err != nil {
			return err
		}
	}
	exports, err := o.target.open()
	if err != nil {
		return err
	}
	if exports != nil && len(o.device.names) == 0 {
		return fault.Usagef("--target has no meaning without --device")
	}
	if o.Devices, err = o.device.open(cmd.Flags(), exports); err != nil {
		return err
	}
	for _, name := range []string{"sample", "sample-tokens"} {
		if cmd.Flags().Changed(name) && o.Reference == "" {
			return fault.Usagef("--%s has no meaning without --reference", name)
		}
	}
	if o.Samples.Tokens < 1 {
		return fault.Usagef("--sample-tokens %d is not a positive number of tokens", o.Samples.Tokens)
	}
	o.Use, o.DeviceNames, o.Progress = o.device.use, o.device.names, a.progress()
	r, err := report.Make(cmd.Context(), a.workers(), o.Options)
	if err != nil {
		return err
	}
	if o.out == standardOutput {
		data, err := r.HTML()
		if err != nil {
			return err
		}
		return a.printFile(data, nil)
	}
	n, err := r.Write(o.out)
	if err != nil {
		return err
	}
	out := reportObject{"afmq.report/v1", o.Artifact, o.out, n, r.Sections}
	return a.print(out, func(w io.Writer) error { return printReport(w, out) })
}

func printReport(w io.Writer, o reportObject) error {
	for _, s := range o.Sections {
		if s.Command == "" && s.Option == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "no data: %s; add %s", s.Title, s.Option); err != nil {
			return err
		}
		if s.Command != "" {
			if _, err := fmt.Fprintf(w, ", from\n  %s", s.Command); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "wrote %s, %s\n", o.Out, size(int64(o.Bytes)))
	return err
}
