package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"afmq/pkg/compare"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// Values of --format.
const (
	textFormat     = "text"
	markdownFormat = "markdown"
)

// compareOptions are the flags of compare.
type compareOptions struct {
	data, reference string
	tasks           []string
	protocol        string
	ctx, stride     int
	adapters        adapterFlags
	compute         computeFlag
	oneAtATime      bool
	allowOverlap    bool
	verify          bool
	format          string
}

type compareObject struct {
	Schema      string `json:"schema"`
	ToolVersion string `json:"tool_version"`
	Data        string `json:"data"`
	*compare.Result
}

func newCompareCommand(a *app) *cobra.Command {
	var o compareOptions
	cmd := &cobra.Command{
		Use:   "compare PATH... --data FILE",
		Short: "Compare models by size, perplexity, divergence and tasks",
		Long: `Scores a text with each model at PATH, a checkpoint, an artifact or a GGUF file, and says
which of them is worth its size. A model has a row, called by the last part of its path;
NAME=PATH gives it another name. --reference adds the model that the others are measured
against as the first row. All must have one tokenizer.

An --adapter makes a further row, MODEL+ADAPTER, of each artifact that it is bound to: its
file names the artifact that it was trained on. The size of a row is that of all files of
weights, the adapter's included.

Two models are compared by the difference of their divergence from the reference, or of
their loss without one, in each window of the text. One is better only if the interval of
the mean difference excludes 0; the confidence of 95 % holds for all pairs together.
Otherwise the two are not distinguishable on this text, and neither is named the better one.

  dominated               another model is no larger and shown to be better
  not shown better than   another model is no larger, and the two are not distinguishable
  Pareto front            the models that are not dominated

At least 16 windows are needed to tell models apart, and a text that does not repeat itself.

--tasks ROW=FILE adds the results of EleutherAI's lm-evaluation-harness for one row: its
output directory, or the file results_DATE.json in it. Each score is shown with its standard
error and its recovery, the score in per cent of the reference's. With the logged samples of
both it also shows the flips: the items that the reference has right and the model wrong, the
reverse, and the p-value of McNemar's exact test. Runs that differ in tasks, versions, examples, prompts, limit or items are refused.

With a reference all models are in memory, and the reference runs over the text once.
--one-at-a-time holds one model beside the reference, which then runs for each; the figures
are the same. Without a reference one model is in memory at a time. The speed in tokens per
second is that of the model's own passes.`,
		Example: `  afmq compare my-4bit my-3.5bit my-2bit --data held-out.txt --reference my-model
  afmq compare four=runs/a/model 2bit --data held-out.txt --reference my-model --adapter r16=recovered/rank-16
  afmq compare my-4bit my-2bit --data held-out.txt --reference my-model --tasks my-model=lm/base --tasks my-4bit=lm/4bit --tasks my-2bit=lm/2bit --format markdown`,
		RunE: func(cmd *cobra.Command, args []string) error { return runCompare(cmd, a, args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "`FILE` of text to score (.jsonl or text)")
	f.StringVar(&o.reference, "reference", "", "measure the divergence from `MODEL`, the 16-bit checkpoint or a GGUF file")
	f.StringArrayVar(&o.tasks, "tasks", nil, "results of lm-evaluation-harness for one row, `ROW=FILE`; FILE may be its output directory; repeatable")
	o.adapters.register(f)
	f.Lookup("adapter").Usage = "add a row for each artifact that the adapter `[NAME=]DIR` is bound to; repeatable. NAME, without path separators, is the directory's by default; an existing directory whose path has an = is taken as DIR"
	f.Lookup("allow-unbound").Usage = "with a single model: take an adapter that does not name the artifact that it was trained on"
	f.StringVar(&o.protocol, "protocol", "chunk", "`PROTOCOL`: chunk, llamacpp or stride, as of eval-perplexity")
	f.IntVar(&o.ctx, "ctx", 0, "`N` tokens in a window (default: min(512, max_position_embeddings) of all models)")
	f.IntVar(&o.stride, "stride", 0, "`N` tokens between windows, for protocol stride (default: ctx/2)")
	o.compute.register(f, "auto")
	f.BoolVar(&o.oneAtATime, "one-at-a-time", false, "with --reference, hold one model in memory beside it; the reference runs for each")
	f.BoolVar(&o.allowOverlap, "allow-overlap", false, "score a file that an artifact was calibrated on, or an adapter trained on")
	f.BoolVar(&o.verify, "verify", true, verifyUsage)
	f.StringVar(&o.format, "format", textFormat, "`FORMAT` of the tables: text or markdown")
	must(cmd.MarkFlagRequired("data"))
	return cmd
}

func runCompare(cmd *cobra.Command, a *app, args []string, o compareOptions) error {
	opts, err := o.options(cmd, a, args)
	if err != nil {
		return err
	}
	r, err := compare.Run(cmd.Context(), opts)
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	out := &compareObject{"afmq.compare/v1", version, o.data, r}
	return a.print(out, func(w io.Writer) error {
		if o.format == markdownFormat {
			return printCompareMarkdown(w, out)
		}
		return printCompare(w, out)
	})
}

// options checks the flags and returns the options of the comparison.
func (o *compareOptions) options(cmd *cobra.Command, a *app, args []string) (opts compare.Options, err error) {
	changed := cmd.Flags().Changed
	if o.ctx < 0 || o.stride < 0 || changed("ctx") && o.ctx == 0 || changed("stride") && o.stride == 0 {
		return opts, fault.Usagef("--ctx and --stride are positive numbers of tokens")
	}
	switch {
	case o.format != textFormat && o.format != markdownFormat:
		return opts, fault.Usagef("--format %q is neither text nor markdown", o.format)
	case o.format == markdownFormat && a.wantJSON:
		return opts, fault.Usagef("--json and --format exclude each other")
	case o.oneAtATime && o.reference == "":
		return opts, fault.Usagef("--one-at-a-time has no meaning without --reference: one model is in memory at a time")
	}
	opts = compare.Options{
		Data: o.data, AllowUnbound: o.adapters.allowUnbound, AllowOverlap: o.allowOverlap, SkipVerify: !o.verify, OneAtATime: o.oneAtATime,
		Ctx: o.ctx, Stride: o.stride, Pool: a.workers(), Progress: a.progress(),
	}
	if opts.Protocol, err = eval.ParseProtocol(o.protocol); err != nil {
		return opts, err
	}
	if opts.Arithmetic, err = o.compute.choose(false); err != nil {
		return opts, err
	}
	if opts.Adapters, err = o.adapters.adapters(); err != nil {
		return opts, err
	}
	if o.reference != "" {
		opts.Reference = &compare.Model{Path: o.reference}
	}
	for _, arg := range args {
		name, path := splitNamed(arg)
		if name == "" || path == "" {
			return opts, fault.Usagef("the argument %q is neither PATH nor NAME=PATH", arg)
		}
		if path == arg {
			name = "" // that of the directory, also of "."
		}
		opts.Models = append(opts.Models, compare.Model{Name: name, Path: path})
	}
	for _, s := range o.tasks {
		row, path, ok := strings.Cut(s, "=")
		if !ok || row == "" || path == "" {
			return opts, fault.Usagef("--tasks %q: expected ROW=FILE, with the name of a row of the table", s)
		}
		opts.Tasks = append(opts.Tasks, compare.TaskFile{Row: row, Path: path})
	}
	return opts, nil
}
