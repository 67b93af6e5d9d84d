package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/fault"
	"afmq/pkg/palettize"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

type quantizeOptions struct {
	out        string
	bits       string
	plan       string
	target     targetFlags
	method     string
	groupRows  int
	rowScale   bool
	calib      calibrationFlags
	compensate string
	restart    bool
	compute    computeFlag
}

type quantizeObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Out    string `json:"out"`
	*quantize.Result
}

func newQuantizeCommand(a *app) *cobra.Command {
	o := quantizeOptions{groupRows: palettize.DefaultGroupRows, rowScale: true}
	cmd := &cobra.Command{
		Use:   "quantize MODEL --out DIR",
		Short: "Palettize a 16-bit checkpoint",
		Long: `Turns the Hugging Face checkpoint MODEL into an artifact in DIR. In every
projection (q, k, v, o, gate, up, down), each group of 16 rows shares a look-up
table of 2^bits values, found by exact k-means, and each row has a factor of its own
(--row-scale=false: none, Apple's plain format); the matrix becomes packed indices.
The embedding and an untied head become 8 bit per row. Norms and biases stay.

How many bits:
  --bits 4             the same for every projection
  --plan plan.json     what ` + "`afmq plan`" + ` chose, or you
  --bpw 3.5            scores the modules, makes the plan and follows it, in one go;
  --max-bytes 400MB    --bits is then what there is to choose from (default 2,4)
--override 'REGEX=BITS' sets the bits of the modules whose names match, later ones
winning; 16 keeps a module as it is, 'lm_head=4' palettizes an untied head.

With --calib the text runs through the model as it is quantized, and the error of each
weight is made up for in those that follow it (--compensate none: not). That halves the
divergence or better, and takes about as long as reading the text some twenty times.

A command that was interrupted continues when it is given again.`,
		Example: `  afmq quantize models/my-model --out my-4bit --calib calib.jsonl
  afmq quantize models/my-model --out my-mixed --bpw 3.5 --calib calib.jsonl
  afmq quantize models/my-model --out my-plain --bits 2 --row-scale=false`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runQuantize(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "`DIR` to write; must not exist, or be empty")
	f.StringVar(&o.bits, "bits", "", "`BITS` of an index, 1 to 8 (default 4); with a target the widths to choose from (default 2,4)")
	f.StringVar(&o.plan, "plan", "", "`FILE` with the bits of every module, from afmq plan")
	o.target.register(f)
	f.StringVar(&o.method, "method", string(sensitivity.DefaultMethod), "`METHOD` by which modules are scored for a target: fisher, kl, hessian or weight")
	f.IntVar(&o.groupRows, "group-rows", o.groupRows, "`N` output rows that share a look-up table")
	f.BoolVar(&o.rowScale, "row-scale", o.rowScale, "give every palettized row an fp16 factor of its own (16 bits a row)")
	o.calib.register(f)
	f.StringVar(&o.compensate, "compensate", "", "`METHOD` that makes up for errors: gptq or none (default: gptq with --calib, none without)")
	o.compute.register(f, "f32")
	f.BoolVar(&o.restart, "restart", false, "discard what an interrupted run left")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

// options turns the flags into what the library takes.
func (o *quantizeOptions) options(f *pflag.FlagSet) (quantize.Options, error) {
	opts := quantize.Options{
		Out: o.out, GroupRows: o.groupRows, RowScale: o.rowScale, Compensate: o.compensate, Restart: o.restart, ToolVersion: version,
	}
	if o.groupRows < 1 { // to the library it would mean the default; here it was typed
		return opts, fault.Usagef("--group-rows %d is not positive", o.groupRows)
	}
	var bits []int
	var err error
	if f.Changed("bits") {
		if bits, err = parseBits(o.bits); err != nil {
			return opts, err
		}
	}
	if opts.Calibration, err = o.calib.options(); err != nil {
		return opts, err
	}
	if opts.Compute, err = o.compute.choose(false); err != nil {
		return opts, err
	}
	if opts.Method, err = sensitivity.ParseMethod(o.method); err != nil {
		return opts, err
	}
	if opts.Overrides, err = parseOverrides(o.target.overrides); err != nil {
		return opts, err
	}
	switch {
	case o.plan != "":
		for _, flag := range []string{"bits", "bpw", "max-bytes", "tie", "override", "group-rows", "row-scale"} {
			if f.Changed(flag) {
				return opts, fault.Usagef("--%s and --plan exclude each other: the plan decides", flag)
			}
		}
		opts.PlanFile = o.plan
		opts.Plan, err = sensitivity.ReadPlan(o.plan)
		return opts, err
	case o.target.given(f):
		r, err := o.target.options(f)
		r.Bits = bits
		opts.Request = &r
		return opts, err
	case f.Changed("tie"):
		return opts, fault.Usagef("--tie needs a target: --bpw or --max-bytes")
	case len(bits) > 1:
		return opts, fault.Usagef("--bits %s: several widths need a target, --bpw or --max-bytes", o.bits)
	case len(bits) == 1:
		opts.Bits = bits[0]
	}
	return opts, nil
}

func runQuantize(cmd *cobra.Command, a *app, model string, o quantizeOptions) error {
	opts, err := o.options(cmd.Flags())
	if err != nil {
		return err
	}
	opts.Model, opts.Progress = model, a.progress()
	r, err := quantize.Run(cmd.Context(), a.workers(), opts)
	if err != nil {
		return err
	}
	object := quantizeObject{"afmq.quantize/v1", model, o.out, r}
	return a.print(object, func(w io.Writer) error {
		if r.Plan != nil && opts.Request != nil {
			if err := printPlan(w, r.Plan); err != nil {
				return err
			}
			fmt.Fprintln(w)
		}
		if err := printResult(w, r); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\nwrote %s\n", o.out)
		return err
	})
}

// fewTokens is the least calibration text whose statistics hold for other text.
const fewTokens = 8192

func printResult(w io.Writer, r *quantize.Result) error {
	if err := printLedger(w, r.Ledger); err != nil {
		return err
	}
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "\nbits per weight\t%.4f in projections, %.4f in the model\n", r.BPW.Projections, r.BPW.Model)
		for _, l := range r.Layers {
			if l.Warning != "" {
				fmt.Fprintf(w, "warning\t%s: %s\n", l.Name, l.Warning)
			}
		}
		if n := r.CalibrationTokens; n > 0 {
			fmt.Fprintf(w, "calibration\t%s tokens", thousands(int64(n)))
			if n < fewTokens {
				fmt.Fprintf(w, "; give %s or more", thousands(fewTokens))
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "content hash\t%s\n", r.ContentHash)
		fmt.Fprintf(w, "time\t%.1f s, %s at most in memory\n", r.Seconds, size(r.PeakRSSBytes))
	})
}
