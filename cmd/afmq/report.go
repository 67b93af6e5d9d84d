package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"afmq/internal/disk"
	"afmq/internal/fault"
	"afmq/internal/report"
)

type reportOptions struct {
	out    string
	device deviceFlags
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
		Short: "Write one page about an artifact: size, bits, divergence, recovery, provenance",
		Long: `Writes one HTML file that needs nothing but itself: no network, no script. It shows what
the artifact takes, by part and against its source, the bits of every projection, and
where it comes from; with the files given, also:

  --scores FILE    how sensitive each layer is (afmq sensitivity)
  --plan FILE      how the bits were chosen (afmq plan)
  --eval FILE      divergence against size, and all figures; give one for this artifact
                   and one for each to compare with (afmq eval-perplexity --json > FILE)
  --recovery DIR   what adapters win back, and their training (afmq recover)
  --device NAME    memory and speed on a device, with --scores also of the optimal plans
                   with somewhat more and fewer bits (afmq devices lists the names)

A section without data names the command that makes it. Every file is held to the
artifact: scores, plan and recovery of another are refused, and so is an evaluation of a
model that was not made from the same checkpoint. Evaluations on different text,
protocol, context or arithmetic are shown apart.`,
		Example: `  afmq report my-3.5bit --out report.html
  afmq report my-3.5bit --scores scores.json --plan plan.json --eval 3.5.json --eval 4.json --recovery recovered --out report.html`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Artifact = args[0]
			return runReport(cmd, a, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "`FILE` to write; must not exist")
	f.StringVar(&o.Scores, "scores", "", "`FILE` with scores of the model that the artifact was made from")
	f.StringVar(&o.Plan, "plan", "", "`FILE` with the plan that the artifact follows")
	f.StringArrayVar(&o.Evals, "eval", nil, "`FILE` with the JSON object of eval-perplexity; repeatable")
	f.StringArrayVar(&o.Recoveries, "recovery", nil, "`DIR` of recover; repeatable")
	o.device.register(f)
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

func runReport(cmd *cobra.Command, a *app, o reportOptions) error {
	if o.out == "" {
		return fault.Usagef("--out is empty; it names the file to write")
	}
	err := disk.CheckNew(o.out)
	if err != nil {
		return err
	}
	if o.Devices, err = o.device.open(cmd.Flags()); err != nil {
		return err
	}
	o.Use = o.device.use
	r, err := report.Make(cmd.Context(), a.workers(), o.Options)
	if err != nil {
		return err
	}
	n, err := r.Write(o.out)
	if err != nil {
		return err
	}
	out := reportObject{"afmq.report/v1", o.Artifact, o.out, n, r.Sections}
	return a.print(out, func(w io.Writer) error { return printReport(w, out) })
}

func printReport(w io.Writer, o reportObject) error {
	return table(w, func(w io.Writer) {
		for _, s := range o.Sections {
			if s.Command != "" {
				fmt.Fprintf(w, "no data\t%s\t%s, then %s\n", s.Title, s.Command, s.Option)
			}
		}
		fmt.Fprintf(w, "wrote\t%s\t%s\n", o.Out, size(int64(o.Bytes)))
	})
}
