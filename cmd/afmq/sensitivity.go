package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/fault"
	"afmq/pkg/palettize"
	"afmq/pkg/sensitivity"
)

// calibrationFlags are the flags of every command that reads calibration text.
type calibrationFlags struct {
	files  []string
	tokens string
	seqLen int
	seed   int64
}

func (c *calibrationFlags) register(f *pflag.FlagSet) {
	f.StringArrayVar(&c.files, "calib", nil, "`FILE` of calibration text (.jsonl or text); repeatable")
	f.StringVar(&c.tokens, "tokens", strconv.Itoa(sensitivity.DefaultTokens), "`N` calibration tokens, such as 16384 or 32k")
	f.IntVar(&c.seqLen, "seq-len", 0, "`N` tokens in a calibration sequence (default: min(512, max_position_embeddings))")
	f.Int64Var(&c.seed, "seed", 0, "`SEED` that chooses the calibration sequences, and what else is random")
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
	bits      string
	groupRows int
	rowScale  bool
	samples   int
	validate  int
	restart   bool
	compute   computeFlag
}

type sensitivityObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Out    string `json:"out"`
	*sensitivity.Timing
	Method     sensitivity.Method        `json:"method"`
	Unit       string                    `json:"unit"`
	Bits       []int                     `json:"bits"`
	Tokens     int                       `json:"tokens"`
	Modules    []sensitivity.ModuleScore `json:"modules"`
	Validation *sensitivity.Validation   `json:"validation"`
}

func newSensitivityCommand(a *app) *cobra.Command {
	o := sensitivityOptions{groupRows: palettize.DefaultGroupRows, rowScale: true, method: string(sensitivity.DefaultMethod), bits: "2,4"}
	cmd := &cobra.Command{
		Use:   "sensitivity MODEL [--calib FILE] --out scores.json",
		Short: "Score how much each module suffers from few bits",
		Long: `Scores every projection of the checkpoint MODEL at each of --bits, and writes what
` + "`afmq plan`" + ` needs to give each module its bits. Scores are made once and serve any
target.

Methods:
  fisher   predicts the divergence that one module causes from a backward pass (default)
  kl       measures it, module by module: exact for one module, and slow
  hessian  squared error of the module's output
  weight   squared error of the weights; needs no text

--validate N measures the true divergence of N modules and prints Spearman's rank
correlation with the scores. Every method but weight needs --calib, and so does
--validate. A command that was interrupted continues when it is given again.`,
		Example: `  afmq sensitivity models/my-model --calib calib.jsonl --out scores.json
  afmq sensitivity models/my-model --calib calib.jsonl --bits 2,3,4 --validate 20 --out scores.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runSensitivity(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "`FILE` to write; must not exist")
	o.calib.register(f)
	f.StringVar(&o.method, "method", o.method, "`METHOD`: fisher, kl, hessian or weight")
	f.StringVar(&o.bits, "bits", o.bits, "`WIDTHS` to score, 1 to 8")
	f.IntVar(&o.groupRows, "group-rows", o.groupRows, "`N` output rows that share a look-up table")
	f.BoolVar(&o.rowScale, "row-scale", o.rowScale, "give every palettized row an fp16 factor of its own")
	f.IntVar(&o.samples, "samples", 1, "fisher: `N` draws of each token's label, one backward pass each")
	f.IntVar(&o.validate, "validate", 0, "measure the divergence of `N` modules and compare")
	o.compute.register(f, "f32")
	f.BoolVar(&o.restart, "restart", false, "discard what an interrupted run left")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

func runSensitivity(cmd *cobra.Command, a *app, model string, o sensitivityOptions) error {
	method, err := sensitivity.ParseMethod(o.method)
	if err != nil {
		return err
	}
	bits, err := parseBits(o.bits)
	if err != nil {
		return err
	}
	calib, err := o.calib.options()
	if err != nil {
		return err
	}
	if o.samples < 1 {
		return fault.Usagef("--samples %d is not a number of draws", o.samples)
	}
	compute, err := o.compute.choose(false)
	if err != nil {
		return err
	}
	s, timing, err := sensitivity.Score(cmd.Context(), a.workers(), o.out, o.restart, sensitivity.ScoreOptions{
		Model: model, Method: method, Bits: bits, GroupRows: o.groupRows, RowScale: o.rowScale, Calibration: calib,
		Samples: o.samples, Validate: o.validate, Progress: a.progress(), ToolVersion: version, Compute: compute,
	})
	if err != nil {
		return err
	}
	object := sensitivityObject{
		Schema: "afmq.sensitivity/v1", Model: model, Out: o.out, Timing: timing, Method: s.Method, Unit: s.Unit,
		Bits: s.Bits, Modules: s.Modules, Validation: s.Validation,
	}
	if s.Calibration != nil {
		object.Tokens = s.Calibration.Tokens
	}
	return a.print(object, func(w io.Writer) error { return printScores(w, object) })
}

func printScores(w io.Writer, o sensitivityObject) error {
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "module\t%s\n", joinBits(o.Bits, "\t", " bits"))
		for _, m := range o.Modules {
			fmt.Fprint(w, m.Name)
			for _, c := range m.Costs {
				fmt.Fprintf(w, "\t%.4g", c)
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "\nscores\tby %s, in %s\n", o.Method, o.Unit)
		if o.Tokens > 0 {
			fmt.Fprintf(w, "calibration\t%s tokens\n", thousands(int64(o.Tokens)))
		}
		if v := o.Validation; v != nil {
			for _, b := range v.ByBits {
				fmt.Fprintf(w, "%d bits against measured KL\tSpearman %.4f over %d modules", b.Bits, b.Spearman, len(v.Modules))
				if b.Ratio > 0 {
					fmt.Fprintf(w, ", sum %.3f of the measured", b.Ratio)
				}
				fmt.Fprintln(w)
			}
		}
		fmt.Fprintf(w, "time\t%.1f s\n", o.Seconds)
		fmt.Fprintf(w, "wrote\t%s\n", o.Out)
	})
}

// parseBits reads a list such as "2,4".
func parseBits(s string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > 8 {
			return nil, fault.Usagef("--bits %q: %q is not a width of 1 to 8 bits", s, strings.TrimSpace(part))
		}
		out = append(out, n)
	}
	return out, nil
}

func joinBits(bits []int, sep, unit string) string {
	parts := make([]string, len(bits))
	for i, b := range bits {
		parts[i] = strconv.Itoa(b) + unit
	}
	return strings.Join(parts, sep)
}
