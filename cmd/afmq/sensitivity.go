package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/artifact"
	"afmq/pkg/estimate"
	"afmq/pkg/fault"
	"afmq/pkg/sensitivity"
	"afmq/pkg/shard"
)

// calibrationFlags are the flags of every command that reads calibration text.
type calibrationFlags struct {
	files  []string
	tokens string
	seqLen int
	seed   int64
}

func (c *calibrationFlags) register(f *pflag.FlagSet) {
	f.StringArrayVar(&c.files, "calib", nil, "calibration text `FILE` (.jsonl or plain text), or "+sensitivity.BuiltinText+"; repeatable")
	f.StringVar(&c.tokens, "tokens", strconv.Itoa(sensitivity.DefaultTokens), "number `N` of calibration tokens, such as 16384 or 32k")
	f.IntVar(&c.seqLen, "seq-len", 0, "length `N` of a calibration sequence in tokens (default: min(512, max_position_embeddings))")
	f.Int64Var(&c.seed, "seed", 0, "`SEED` of the selection of calibration sequences and of all other random numbers")
}

func (c *calibrationFlags) options() (sensitivity.CalibrationOptions, error) {
	tokens, err := parseCount("tokens", c.tokens)
	if err != nil {
		return sensitivity.CalibrationOptions{}, err
	}
	if c.seqLen < 0 {
		return sensitivity.CalibrationOptions{}, fault.Usagef("--seq-len %d is negative", c.seqLen)
	}
	return sensitivity.CalibrationOptions{Files: c.files, Tokens: int(tokens), SeqLen: c.seqLen, Seed: c.seed}, nil
}

type sensitivityOptions struct {
	out       string
	calib     calibrationFlags
	method    string
	grid      gridFlags
	embedding bool
	samples   int
	validate  int
	restart   bool
	dryRun    dryRunFlag
	compute   computeFlag
	target    targetFlag
	shard     shardFlag
}

// sensitivityShardObject is the result of one shard.
type sensitivityShardObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Out    string `json:"out"`
	Shard  string `json:"shard"`
	*sensitivity.ShardResult
}

type sensitivityObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Out    string `json:"out"`
	sensitivity.Timing
	Method     sensitivity.Method        `json:"method"`
	Unit       string                    `json:"unit"`
	Bits       []int                     `json:"bits,omitempty"`
	Forms      []artifact.Form           `json:"forms,omitempty"`
	Tokens     int                       `json:"tokens"`
	Modules    []sensitivity.ModuleScore `json:"modules"`
	Ends       []sensitivity.EndScore    `json:"ends,omitempty"`
	Validation *sensitivity.Validation   `json:"validation"`
}

func newSensitivityCommand(a *app) *cobra.Command {
	o := sensitivityOptions{method: string(sensitivity.DefaultMethod)}
	cmd := &cobra.Command{
		Use:   "sensitivity MODEL [--calib FILE] --out scores.json",
		Short: "Score the sensitivity of each module to quantization",
		Long: `Scores every projection of the checkpoint MODEL at each width of --bits: the loss of the
model if that module alone is quantized to that width. ` + "`afmq plan`" + ` chooses the bits of
every module from the scores, under any size limit.

--embedding also scores the embedding and an untied head, as palettes of the same widths and
of 4 to 6 bits, and as rows of 8 bits: plan --bpw-of model chooses their bits, too. An embedding
that is also the head has one score for both uses.

Methods:
  fisher   predicts the KL divergence to the original model from one backward pass (default)
  kl       measures the KL divergence, one module at a time; slow
  hessian  squared error of the module's output
  weight   squared error of the weights; needs no text

All methods except weight need calibration text, --calib. If you have none, --calib builtin
reads the text in this program; ./builtin names a file. --validate N also measures the KL
divergence of N modules, and prints its rank correlation (Spearman) with the scores.

--method kl refuses --compute bf16, whose rounding changes the output more than palettes of 6
and 8 bits do; --validate measures in f32 then. --target refuses widths and groups that a
runtime does not have before any text is read. An interrupted command resumes when it is
repeated.

` + shardHelp + `
Shards of fisher have parts of the text, those of the other methods modules. ` + "`afmq merge`" + `
writes the scores.`,
		Example: `  afmq sensitivity models/my-model --calib calib.jsonl --out scores.json
  afmq sensitivity models/my-model --calib builtin --method hessian --out hessian.json
  afmq sensitivity models/my-model --calib calib.jsonl --bits 2,3,4 --validate 20 --out scores.json`,
		RunE: func(cmd *cobra.Command, args []string) error { return runSensitivity(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	registerOut(f, &o.out, outState, "output `FILE`; must not exist")
	o.calib.register(f)
	f.StringVar(&o.method, "method", o.method, "scoring `METHOD`: fisher, kl, hessian or weight")
	o.grid.register(f, "`WIDTHS` to score (default 2,3,4 for palette, 2,3,4,5,6 for affine, 4,8 for symmetric)")
	f.BoolVar(&o.embedding, "embedding", false, "also score the embedding and an untied head, for plan --bpw-of model")
	o.target.register(f)
	f.IntVar(&o.samples, "samples", 1, "fisher: number `N` of labels drawn per token, one backward pass each")
	f.IntVar(&o.validate, "validate", 0, "also measure the KL divergence of `N` modules")
	o.compute.register(f, "f32")
	o.shard.register(f)
	o.dryRun.register(f)
	f.BoolVar(&o.restart, "restart", false, "discard the state of an interrupted run")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

func runSensitivity(cmd *cobra.Command, a *app, model string, o sensitivityOptions) error {
	method, err := sensitivity.ParseMethod(o.method)
	if err != nil {
		return err
	}
	bits, forms, err := o.grid.choose(cmd.Flags(), true)
	if err != nil {
		return err
	}
	calib, err := o.calib.options()
	if err != nil {
		return err
	}
	if o.samples < 1 {
		return fault.Usagef("--samples %d must be at least 1", o.samples)
	}
	compute, err := o.compute.choose(false)
	if err != nil {
		return err
	}
	sh, err := o.shard.choose()
	if err != nil {
		return err
	}
	opts := sensitivity.Options{
		Model: model, Out: o.out, Restart: o.restart, Method: method, Bits: bits, Forms: forms, Ends: o.embedding, GroupRows: o.grid.groupRows, NoRowScale: !o.grid.rowScale,
		Calibration: calib, Samples: o.samples, Validate: o.validate, Compute: compute,
		ExportTarget: o.target.name, Pool: a.workers(), Memory: a.memoryBytes, Progress: a.progress(), ToolVersion: version,
	}
	if o.dryRun.on {
		predict := sensitivity.Estimate
		if sh.Divided() {
			predict = func(ctx context.Context, opts sensitivity.Options) (*estimate.Estimate, error) {
				return sensitivity.EstimateShard(ctx, opts, sh)
			}
		}
		e, err := predict(cmd.Context(), opts)
		if err != nil {
			return err
		}
		return o.dryRun.print(a, "sensitivity", o.out, "give fewer calibration --tokens, or more --memory", e)
	}
	if sh.Divided() {
		return runSensitivityShard(cmd, a, opts, sh)
	}
	r, err := sensitivity.Score(cmd.Context(), opts)
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	s := r.Scores
	object := sensitivityObject{
		Schema: "afmq.sensitivity/v1", Model: model, Out: o.out, Timing: r.Timing, Method: s.Method, Unit: s.Unit,
		Bits: s.Bits, Forms: s.Forms, Modules: s.Modules, Ends: s.Ends, Validation: s.Validation,
	}
	if s.Calibration != nil {
		object.Tokens = s.Calibration.Tokens
	}
	return a.print(object, func(w io.Writer) error { return printScores(w, object) })
}

func runSensitivityShard(cmd *cobra.Command, a *app, opts sensitivity.Options, sh shard.Shard) error {
	r, err := sensitivity.ScoreShard(cmd.Context(), opts, sh)
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	object := sensitivityShardObject{"afmq.sensitivity-shard/v1", opts.Model, opts.Out, sh.String(), r}
	return a.print(object, func(w io.Writer) error {
		if r.Already {
			_, err := fmt.Fprintf(w, "%s was complete before\n", r.Path)
			return err
		}
		return table(w, func(w io.Writer) {
			fmt.Fprintf(w, "shard\t%s: %d units\n", sh, r.Units)
			fmt.Fprintf(w, "time\t%.1f s, %s peak memory\n", r.Seconds, size(r.PeakRSSBytes))
			fmt.Fprintf(w, "wrote\t%s\n", whole(r.Path))
		})
	})
}

func printScores(w io.Writer, o sensitivityObject) error {
	if err := printCosts(w, o); err != nil {
		return err
	}
	if err := printEnds(w, o); err != nil {
		return err
	}
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "\nscores\tby %s, in %s\n", o.Method, o.Unit)
		if o.Tokens > 0 {
			fmt.Fprintf(w, "calibration\t%s tokens\n", thousands(int64(o.Tokens)))
		}
		if v := o.Validation; v != nil {
			for _, b := range v.ByBits {
				name := fmt.Sprintf("%d bits", b.Bits)
				if b.Form != "" {
					name = string(b.Form)
				}
				fmt.Fprintf(w, "%s vs. measured KL\tSpearman %.4f over %d modules", name, b.Spearman, len(v.Modules))
				if b.Ratio > 0 {
					fmt.Fprintf(w, ", ratio of the sums %.3f", b.Ratio)
				}
				fmt.Fprintln(w)
			}
		}
		fmt.Fprintf(w, "time\t%.1f s\n", o.Seconds)
		fmt.Fprintf(w, "wrote\t%s\n", whole(o.Out))
	})
}

// printEnds prints the scores of embedding and head, with the measured divergence if there is one.
func printEnds(w io.Writer, o sensitivityObject) error {
	if len(o.Ends) == 0 {
		return nil
	}
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "\nmodule\tstored\tscore")
		if o.Validation != nil {
			fmt.Fprintf(w, "\tmeasured KL")
		}
		fmt.Fprintln(w)
		for i, e := range o.Ends {
			for k, bits := range e.Bits {
				stored := fmt.Sprintf("%d bits", bits)
				if bits == 8 {
					stored = string(artifact.RowInt8)
				}
				fmt.Fprintf(w, "%s\t%s\t%.4g", e.Name, stored, e.Costs[k])
				if o.Validation != nil {
					fmt.Fprintf(w, "\t%.4g", o.Validation.Ends[i].Measured[k])
				}
				fmt.Fprintln(w)
			}
		}
	})
}

// printCosts prints the scores of every module, in several tables if they have more widths
// than fit one.
func printCosts(w io.Writer, o sensitivityObject) error {
	const cell = len("  1.234e-05")
	label := func(name string) string { return name }
	longest := func() (n int) {
		for _, m := range o.Modules {
			n = max(n, len(label(m.Name)))
		}
		return n
	}
	heads := o.options()
	if longest()+cell*len(heads) > columns {
		label = shortName
	}
	room := max(1, (columns-longest())/cell)
	for from := 0; from < len(heads); from += room {
		to := min(from+room, len(heads))
		err := table(w, func(w io.Writer) {
			if from > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "module\t%s\n", strings.Join(heads[from:to], "\t"))
			for _, m := range o.Modules {
				fmt.Fprint(w, label(m.Name))
				for _, c := range m.Costs[from:to] {
					fmt.Fprintf(w, "\t%.4g", c)
				}
				fmt.Fprintln(w)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// options names what was scored: "4 bits" or "q4_k".
func (o *sensitivityObject) options() (out []string) {
	for _, b := range o.Bits {
		out = append(out, strconv.Itoa(b)+" bits")
	}
	for _, f := range o.Forms {
		out = append(out, string(f))
	}
	return out
}

// parseBits reads a list such as "2,4".
func parseBits(s string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > 8 {
			bad := fault.Usagef("--bits %q: %q is not a width of 1 to 8 bits", s, strings.TrimSpace(part))
			if average, err := strconv.ParseFloat(s, 64); err == nil && average > 1 && average < 8 {
				return nil, bad.WithHint("--bpw %s is an average over modules of different widths", s)
			}
			return nil, bad
		}
		out = append(out, n)
	}
	return out, nil
}
