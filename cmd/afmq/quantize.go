package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/artifact"
	"afmq/pkg/estimate"
	"afmq/pkg/export/gguf"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/quantize"
	"afmq/pkg/recovery"
	"afmq/pkg/sensitivity"
	"afmq/pkg/shard"
)

type quantizeOptions struct {
	out        string
	grid       gridFlags
	plan       string
	budget     budgetFlags
	target     targetFlag
	method     string
	calib      calibrationFlags
	stats      string
	shard      shardFlag
	compensate string
	restart    bool
	dryRun     dryRunFlag
	tune       tuneFlags
	compute    computeFlag
}

// quantizeShardObject is the result of one shard.
type quantizeShardObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Out    string `json:"out"`
	Shard  string `json:"shard"`
	*quantize.ShardResult
}

type quantizeObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Out    string `json:"out"`
	*quantize.Result
	Tuning *recovery.TuneResult `json:"tuning,omitempty"`
}

func newQuantizeCommand(a *app) *cobra.Command {
	var o quantizeOptions
	cmd := &cobra.Command{
		Use:   "quantize MODEL --out DIR",
		Short: "Quantize a 16-bit checkpoint to an artifact",
		Long: `Converts the Hugging Face checkpoint MODEL into an artifact in DIR. In every
projection (q, k, v, o, gate, up, down) each group of 16 rows shares a look-up table of
2^bits fp16 values, and every weight becomes an index into it. Each row also has an fp16
scale; --row-scale=false omits it, as in Apple's published format. The embedding and an
untied head become 8-bit integers with one scale per row. Norms and biases are copied.

Without row scales, each table is the exact k-means optimum of its group, rounded to fp16.
With row scales, the default, scales and table are fitted alternately in a few rounds; the
result is close to the optimum, not at it (docs/quality.md has the distance). With --calib,
a heuristic lowers what the errors cost the model's loss instead.

Bits per index:
  --bits 4             the same for every projection
  --plan plan.json     those of a plan from ` + "`afmq plan`" + `, edited or not
  --bpw 3.5            scores the modules, makes a plan for this budget and applies it;
  --max-bytes 400MB    --bits then lists the candidate widths (default 2,3,4)
  --bpw-of model       with a budget: --bpw is of all parameters, and the embedding and an
                       untied head are chosen, too: palettes, or rows of 8 bits
--override 'REGEX=BITS' sets the bits of the modules whose names match; the last match
decides. 16 keeps a module unquantized; 'embed_tokens=4' palettizes the embedding, and with it a
head that is tied to it, 'lm_head=4' a head of its own.

--grid stores weights as other runtimes have them, instead of palettes:
  gguf       blocks of llama.cpp: --types q4_k; one of q2_k to q6_k, iq4_nl, iq4_xs, q4_0 to
             q8_0. Embedding and head are q6_k, or q8_0 beside that.
  affine     MLX: --bits 2 to 6 or 8; a scale and a bias for --group 64 columns of a row.
             Embedding and head have the same bits, at least 4.
  symmetric  compressed-tensors, for vLLM and transformers: --bits 2 to 8; a scale for
             --group 128 columns, and a zero point with --zero-point. Embedding and head stay
             at 16 bits. vLLM itself runs 4 and 8 bits.
--override 'REGEX=TYPE' or 'REGEX=BITS' changes modules, and 'REGEX=16' keeps them
unquantized. A matrix whose columns a grid does not divide (256 for K types and iq4_xs) gets
the next one, and the command says so. With --bpw or --max-bytes, --types or --bits list what
to choose from; --max-bytes bounds the GGUF file, and otherwise model.safetensors. afmq export
writes the artifact for the runtime.

With --calib, text runs through the model while it is quantized, and the weights quantized
later compensate the error of those quantized before. --compensate loss, the default, first
runs the text backward through the 16-bit model and weighs every error by what it costs the
loss. --compensate gptq weighs it by the error of the module's output: on afm-mini it takes
about 60 % of the time, and the divergence is 18 to 28 % higher. With none it is about three
times as high (docs/bits.md).

Use text that resembles the model's future input. If you have none, --calib builtin reads the
text in this program: English prose, dialogue, code and a little French, German and Spanish
(docs/quality.md compares them). ./builtin names a file.

--stats takes statistics of text from ` + "`afmq stats`" + ` in its place, and their scores for
--bpw. Every module then sees the inputs of the unquantized model: errors of the modules before
it are not compensated (docs/cluster.md has what that costs), and modules do not depend on one
another.

` + shardHelp + `
With --stats, or without text, a share is some of the modules. With --calib, all shares run the
text, each compensates some rows of every module, and they wait for one another; the bits come
from --bits, or from a --plan with the scores of ` + "`afmq sensitivity --shard`" + `. ` + "`afmq merge`" + ` makes
the artifact of the shares.

--target checks widths, overrides, plan and --group-rows against the rules of a runtime before
any text is read. docs/targets.md lists them.

--tune 2M then trains the stored numbers on so many tokens, as afmq tune does.

Give an interrupted command again to resume it.`,
		Example: `  afmq quantize models/my-model --out my-4bit --calib calib.jsonl
  afmq quantize models/my-model --out my-mixed --bpw 3.5 --calib calib.jsonl
  afmq quantize models/my-model --out my-small --bpw 4 --bpw-of model --calib calib.jsonl
  afmq quantize models/my-model --out my-first --bpw 3.5 --calib builtin
  afmq quantize models/my-model --out my-plain --bits 2 --row-scale=false
  afmq quantize models/my-model --out my-q4k --grid gguf --types q4_k --calib calib.jsonl
  afmq quantize models/my-model --out my-gguf --grid gguf --bpw 3.5 --calib calib.jsonl
  afmq quantize models/my-model --out my-mlx --grid affine --bits 4 --calib calib.jsonl`,
		RunE: func(cmd *cobra.Command, args []string) error { return runQuantize(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	registerOut(f, &o.out, outDir, "`DIR` to create; must not exist, or be empty")
	o.grid.register(f, "`BITS` of an index or a code (default 4); with a budget, those to choose from (default 2,3,4 for palette, 2,3,4,5,6 for affine, 4,8 for symmetric)")
	f.StringVar(&o.plan, "plan", "", "`FILE` with the bits of every module, from afmq plan")
	o.budget.register(f)
	o.target.register(f)
	f.StringVar(&o.method, "method", string(sensitivity.DefaultMethod), "`METHOD` that scores the modules for a budget: fisher, kl, hessian or weight")
	o.calib.register(f)
	f.StringVar(&o.stats, "stats", "", "`DIR` of statistics from afmq stats, in place of --calib")
	o.shard.register(f)
	f.StringVar(&o.compensate, "compensate", "", "`METHOD` of error compensation: loss, gptq or none (default: loss with --calib or --stats, else none)")
	o.compute.register(f, "f32")
	o.tune.register(f)
	o.dryRun.register(f)
	f.BoolVar(&o.restart, "restart", false, "discard the saved state of an interrupted run")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

// options converts the flags to the options of the library.
func (o *quantizeOptions) options(f *pflag.FlagSet, model string) (opts quantize.Options, err error) {
	opts = quantize.Options{
		Model: model, Out: o.out, ExportTarget: o.target.name, Stats: o.stats, Compensate: o.compensate, Restart: o.restart, ToolVersion: version,
	}
	bits, forms, err := o.grid.choose(f, o.budget.given(f))
	if err != nil {
		return opts, err
	}
	if len(forms) == 0 {
		opts.GroupRows, opts.NoRowScale = o.grid.groupRows, !o.grid.rowScale
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
	switch {
	case o.plan != "":
		for _, flag := range append([]string{"bpw", "max-bytes", "bpw-of", "tie", "override"}, gridNames...) {
			if f.Changed(flag) {
				return opts, fault.Usagef("--%s and --plan exclude each other: the plan sets it", flag)
			}
		}
		opts.PlanFile = o.plan
		opts.Plan, err = sensitivity.ReadPlan(o.plan)
		return opts, err
	case o.budget.given(f):
		opts.Request, err = o.request(f, &opts, bits, forms)
		return opts, err
	case f.Changed("tie"):
		return opts, fault.Usagef("--tie needs a budget: --bpw or --max-bytes")
	case f.Changed("bpw-of"):
		return opts, fault.Usagef("--bpw-of needs a budget: --bpw or --max-bytes")
	case f.Changed("method") && len(forms) > 0:
		return opts, fault.Usagef("--method needs a budget: --bpw or --max-bytes")
	case len(forms) == 1:
		opts.Form = forms[0]
	case len(bits) == 1:
		opts.Bits = bits[0]
	}
	return opts, nil
}

// request returns what to choose from within a budget.
func (o *quantizeOptions) request(f *pflag.FlagSet, opts *quantize.Options, bits []int, forms []artifact.Form) (*sensitivity.PlanOptions, error) {
	if opts.Stats != "" && f.Changed("method") {
		return nil, fault.Usagef("--method and --stats exclude each other: the statistics have scores")
	}
	if opts.Method.NeedsText() && len(opts.Calibration.Files) == 0 && opts.Stats == "" {
		flag := "bpw"
		if !f.Changed(flag) {
			flag = "max-bytes"
		}
		return nil, fault.Usagef("--%s needs calibration text: give --calib FILE or --calib builtin, or --method weight", flag).
			WithHint("method %s scores the modules on text; weight needs none, and its ranking is worse", opts.Method)
	}
	r, err := o.budget.options(f)
	if err != nil {
		return nil, err
	}
	r.Bits, r.Forms = bits, forms
	if o.grid.grid == grid.FamilyGGUF && r.Target.MaxBytes > 0 {
		r.Container = &sensitivity.Container{Name: "the GGUF file", Align: gguf.Alignment}
		r.Container.Overhead, err = gguf.Overhead(opts.Model, version)
	}
	return &r, err
}

func runQuantize(cmd *cobra.Command, a *app, model string, o quantizeOptions) error {
	opts, err := o.options(cmd.Flags(), model)
	if err != nil {
		return err
	}
	opts.Pool, opts.Memory, opts.Progress = a.workers(), a.memoryBytes, a.progress()
	sh, err := o.shard.choose()
	if err != nil {
		return err
	}
	tune, err := o.tune.options(cmd.Flags(), &opts, o.calib.files)
	if err != nil {
		return err
	}
	if o.dryRun.on {
		predict := quantize.Estimate
		if sh.Divided() {
			predict = func(ctx context.Context, opts quantize.Options) (*estimate.Estimate, error) {
				return quantize.EstimateShard(ctx, opts, sh)
			}
		}
		e, err := predict(cmd.Context(), opts)
		if err != nil {
			return err
		}
		return o.dryRun.print(a, "quantize", o.out, "give fewer calibration --tokens, --stats of afmq stats, or more --memory", e)
	}
	if sh.Divided() {
		return runQuantizeShard(cmd, a, opts, sh)
	}
	r, tuned, err := runAndTune(cmd.Context(), opts, tune)
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	object := quantizeObject{"afmq.quantize/v1", model, o.out, r, tuned}
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
		if err := printTuned(w, tuned); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\nwrote %s\n", o.out)
		return err
	})
	if err == nil && r.CalibrationTokens == 0 && o.compensate == "" && r.BPW.Projections < uncompensatedBPW && !a.quiet {
		hint := noCalibrationHint
		if o.grid.grid != grid.FamilyPalette || opts.Plan != nil && opts.Plan.Formed() {
			hint = noCalibrationOfGrid
		}
		fmt.Fprint(a.stderr, hint)
	}
	return err
}

func runQuantizeShard(cmd *cobra.Command, a *app, opts quantize.Options, sh shard.Shard) error {
	r, err := quantize.RunShard(cmd.Context(), opts, sh)
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	object := quantizeShardObject{"afmq.quantize-shard/v1", opts.Model, opts.Out, sh.String(), r}
	return a.print(object, func(w io.Writer) error {
		if r.Already {
			_, err := fmt.Fprintf(w, "%s was complete before\n", r.Path)
			return err
		}
		return table(w, func(w io.Writer) {
			fmt.Fprintf(w, "shard\t%s: %d modules, %s\n", sh, r.Modules, size(r.Bytes))
			fmt.Fprintf(w, "time\t%.1f s, %s peak memory\n", r.Seconds, size(r.PeakRSSBytes))
			fmt.Fprintf(w, "wrote\t%s\n", whole(r.Path))
		})
	})
}

// noCalibrationHint follows the result of a run without calibration text. docs/bits.md has the
// figures.
const noCalibrationHint = `hint: without calibration text, errors are not compensated. At 2 to 4 bits, the
      divergence of afm-mini is then about three times as large (docs/bits.md).
      Give --calib FILE or --calib builtin.
`

// noCalibrationOfGrid is noCalibrationHint for other grids, of which the figures are not known.
const noCalibrationOfGrid = `hint: without calibration text, errors are not compensated.
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
