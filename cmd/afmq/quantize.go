package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/palettize"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

type quantizeOptions struct {
	out        string
	bits       string
	grid       string
	types      string
	plan       string
	budget     budgetFlags
	target     targetFlag
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
		Long: `Converts the Hugging Face checkpoint MODEL into an artifact in DIR. In every
projection (q, k, v, o, gate, up, down) each group of 16 rows shares a look-up table of
2^bits fp16 values, and every weight becomes an index into it. Each row also has an fp16
scale; --row-scale=false omits it, as in Apple's published format. The embedding and an
untied head become 8-bit integers with one scale per row. Norms and biases are copied.

Without row scales, each table is the exact k-means optimum of its group, rounded to fp16.
With row scales, the default, scales and table are fitted alternately in a few rounds; the
result is close to the optimum, not at it (docs/quality.md has the distance). With --calib,
a heuristic (GPTQ) reduces the error of the module's output instead.

Bits per index:
  --bits 4             the same for every projection
  --plan plan.json     those of a plan from ` + "`afmq plan`" + `, edited or not
  --bpw 3.5            scores the modules, makes a plan for this budget and applies it;
  --max-bytes 400MB    --bits then lists the candidate widths (default 2,4)
--override 'REGEX=BITS' sets the bits of the modules whose names match; the last match
decides. 16 keeps a module unquantized; 'lm_head=4' palettizes an untied head.

--grid gguf stores all matrices in blocks of llama.cpp instead of palettes: --types names the
type of the projections, such as q2_k, q3_k, q4_k, q5_k, q6_k, iq4_xs or q8_0. Embedding and
head are q6_k, or q8_0 with --types q8_0; --override 'REGEX=TYPE' changes the type of modules,
and 'REGEX=16' keeps them unquantized. K types and iq4_xs need columns that are a multiple of
256; a matrix without becomes iq4_nl, q5_0 or q8_0, and the command says so. --bpw and --plan
choose among palettes only.

With --calib, text runs through the model while it is quantized, and the weights quantized
later compensate the error of those quantized before (--compensate none turns this off).
It halves the divergence or better, and takes about as long as evaluating the text twenty
times. Use text that resembles the model's future input. If you have none, --calib builtin
reads the text in this program: English prose, dialogue, code and a little French, German and
Spanish (docs/quality.md compares them). ./builtin names a file.

--target checks widths, overrides, plan and --group-rows against the rules of a runtime before
any text is read. docs/targets.md lists them.

Give an interrupted command again to resume it.`,
		Example: `  afmq quantize models/my-model --out my-4bit --calib calib.jsonl
  afmq quantize models/my-model --out my-mixed --bpw 3.5 --calib calib.jsonl
  afmq quantize models/my-model --out my-first --bpw 3.5 --calib builtin
  afmq quantize models/my-model --out my-plain --bits 2 --row-scale=false
  afmq quantize models/my-model --out my-q4k --grid gguf --types q4_k --calib calib.jsonl`,
		RunE: func(cmd *cobra.Command, args []string) error { return runQuantize(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	registerOut(f, &o.out, outDir, "`DIR` to create; must not exist, or be empty")
	f.StringVar(&o.bits, "bits", "", "`BITS` per index, 1 to 8 (default 4); with a budget, the candidate widths (default 2,4)")
	f.StringVar(&o.grid, "grid", "palette", "`GRID` of the weights: palette, or gguf for the block types of llama.cpp")
	f.StringVar(&o.types, "types", "q4_k", "--grid gguf: `TYPE` of the projections: q2_k, q3_k, q4_k, q5_k, q6_k, iq4_xs, iq4_nl, q4_0, q4_1, q5_0, q5_1 or q8_0")
	f.StringVar(&o.plan, "plan", "", "`FILE` with the bits of every module, from afmq plan")
	o.budget.register(f)
	o.target.register(f)
	f.StringVar(&o.method, "method", string(sensitivity.DefaultMethod), "`METHOD` that scores the modules for a budget: fisher, kl, hessian or weight")
	f.IntVar(&o.groupRows, "group-rows", o.groupRows, "`N` output rows that share a look-up table")
	f.BoolVar(&o.rowScale, "row-scale", o.rowScale, "store an fp16 scale for every palettized row (16 bits a row)")
	o.calib.register(f)
	f.StringVar(&o.compensate, "compensate", "", "`METHOD` of error compensation: gptq or none (default: gptq with --calib, none without)")
	o.compute.register(f, "f32")
	f.BoolVar(&o.restart, "restart", false, "discard the saved state of an interrupted run")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

// options converts the flags to the options of the library.
func (o *quantizeOptions) options(f *pflag.FlagSet) (quantize.Options, error) {
	opts := quantize.Options{
		Out: o.out, ExportTarget: o.target.name, GroupRows: o.groupRows, NoRowScale: !o.rowScale, Compensate: o.compensate, Restart: o.restart, ToolVersion: version,
	}
	if o.groupRows < 1 { // 0 is the default of the library, but not of the flag
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
	if opts.Overrides, err = parseOverrides(o.budget.overrides); err != nil {
		return opts, err
	}
	if o.grid != "palette" {
		return opts, o.blocks(f, &opts)
	}
	if f.Changed("types") {
		return opts, fault.Usagef("--types belongs to --grid gguf")
	}
	switch {
	case o.plan != "":
		for _, flag := range []string{"bits", "bpw", "max-bytes", "tie", "override", "group-rows", "row-scale"} {
			if f.Changed(flag) {
				return opts, fault.Usagef("--%s and --plan exclude each other: the plan sets it", flag)
			}
		}
		opts.PlanFile = o.plan
		opts.Plan, err = sensitivity.ReadPlan(o.plan)
		return opts, err
	case o.budget.given(f):
		if opts.Method.NeedsText() && len(opts.Calibration.Files) == 0 {
			flag := "bpw"
			if !f.Changed(flag) {
				flag = "max-bytes"
			}
			return opts, fault.Usagef("--%s needs calibration text: give --calib FILE or --calib builtin, or --method weight", flag).
				WithHint("method %s scores the modules on text; weight needs none, and its ranking is worse", opts.Method)
		}
		r, err := o.budget.options(f)
		r.Bits = bits
		opts.Request = &r
		return opts, err
	case f.Changed("tie"):
		return opts, fault.Usagef("--tie needs a budget: --bpw or --max-bytes")
	case len(bits) > 1:
		return opts, fault.Usagef("--bits %s: more than one width needs a budget: --bpw or --max-bytes", o.bits)
	case len(bits) == 1:
		opts.Bits = bits[0]
	}
	return opts, nil
}

// blocks sets the options of --grid gguf.
func (o *quantizeOptions) blocks(f *pflag.FlagSet, opts *quantize.Options) error {
	if o.grid != "gguf" {
		return fault.Usagef("--grid %q: expected palette or gguf", o.grid)
	}
	for _, flag := range []string{"bits", "plan", "bpw", "max-bytes", "tie", "method", "group-rows", "row-scale"} {
		if f.Changed(flag) {
			return fault.Usagef("--%s belongs to --grid palette; --grid gguf takes --types and --override 'REGEX=TYPE'", flag)
		}
	}
	t, ok := ggml.ParseType(strings.ToUpper(o.types))
	if !ok || !t.HasCodes() {
		return fault.Usagef("--types %q: expected one type of blocks, such as q4_k", o.types)
	}
	opts.Blocks, opts.GroupRows, opts.NoRowScale = t, 0, false
	return nil
}

func runQuantize(cmd *cobra.Command, a *app, model string, o quantizeOptions) error {
	opts, err := o.options(cmd.Flags())
	if err != nil {
		return err
	}
	opts.Model, opts.Pool, opts.Progress = model, a.workers(), a.progress()
	r, err := quantize.Run(cmd.Context(), opts)
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	object := quantizeObject{"afmq.quantize/v1", model, o.out, r}
	err = a.print(object, func(w io.Writer) error {
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
	if err == nil && r.CalibrationTokens == 0 && o.compensate == "" && r.BPW.Projections < uncompensatedBPW && !a.quiet {
		hint := noCalibrationHint
		if opts.Blocks != 0 {
			hint = noCalibrationOfBlocks
		}
		fmt.Fprint(a.stderr, hint)
	}
	return err
}

// noCalibrationHint follows the result of a run without calibration text. docs/bits.md has the
// figures.
const noCalibrationHint = `hint: without calibration text, errors are not compensated. At 2 to 4 bits, the
      divergence of afm-mini is then 2.3 to 2.7 times as large (docs/bits.md).
      Give --calib FILE or --calib builtin.
`

// noCalibrationOfBlocks is noCalibrationHint for blocks of ggml, of which the figures are not known.
const noCalibrationOfBlocks = `hint: without calibration text, errors are not compensated.
      Give --calib FILE or --calib builtin.
`

// uncompensatedBPW is the bits per weight from which on noCalibrationHint is not worth a line.
const uncompensatedBPW = 6

// fewTokens is the number of calibration tokens below which the statistics overfit the text.
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
				fmt.Fprintf(w, "; %s or more are recommended", thousands(fewTokens))
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "content hash\t%s\n", r.ContentHash)
		fmt.Fprintf(w, "time\t%.1f s, %s peak memory\n", r.Seconds, size(r.PeakRSSBytes))
	})
}
