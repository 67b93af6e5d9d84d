package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"afmq/internal/fault"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

type quantizeOptions struct {
	out            string
	bits           int
	groupRows      int
	rowScale       bool
	overrides      []string
	restart        bool
	calib          []string
	compensate     string
	tokens, seqLen int
	seed           int64
}

type quantizeObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Out    string `json:"out"`
	*quantize.Result
}

func newQuantizeCommand(a *app) *cobra.Command {
	o := quantizeOptions{bits: quantize.DefaultBits, groupRows: quantize.DefaultGroupRows}
	cmd := &cobra.Command{
		Use:   "quantize MODEL --out DIR",
		Short: "Palettize a 16-bit checkpoint",
		Long: `Turns the Hugging Face checkpoint MODEL into an artifact in DIR. In every
projection (q, k, v, o, gate, up, down), each group of 16 rows shares a look-up
table of 2^bits values, found by exact k-means; the matrix becomes packed indices.
The embedding and an untied head become 8 bit per row. Norms and biases stay.

--override 'REGEX=BITS' sets the bits of the modules whose names match, later ones
winning; 16 keeps a module as it is, 'lm_head=4' palettizes an untied head.

--row-scale lets rows of different range share a table: it costs 16 bits a row and
takes a fifth to a third off the divergence, but several times as long to fit.

A command that was interrupted continues when it is given again.`,
		Example: `  afmq quantize models/my-model --out my-4bit
  afmq quantize models/my-model --out my-mixed --bits 4 --override 'layers\.(1|2|3)\..*(gate|up)_proj=2'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runQuantize(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "directory to write; must not exist, or be empty")
	f.IntVar(&o.bits, "bits", o.bits, "bits of an index, 1 to 8")
	f.IntVar(&o.groupRows, "group-rows", o.groupRows, "output rows that share a look-up table")
	f.BoolVar(&o.rowScale, "row-scale", false, "give every palettized row an fp16 factor of its own (16 bits a row)")
	f.StringArrayVar(&o.overrides, "override", nil, "REGEX=BITS for the modules that match; repeatable")
	f.BoolVar(&o.restart, "restart", false, "discard what an interrupted run left")
	f.StringArrayVar(&o.calib, "calib", nil, "calibration text (.jsonl or text); repeatable")
	f.StringVar(&o.compensate, "compensate", "", "gptq or none (default: gptq with --calib)")
	f.IntVar(&o.tokens, "tokens", sensitivity.DefaultTokens, "calibration tokens")
	f.IntVar(&o.seqLen, "seq-len", 0, "tokens in a calibration sequence (default: min(512, max_position_embeddings))")
	f.Int64Var(&o.seed, "seed", 0, "chooses the calibration sequences")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

func runQuantize(cmd *cobra.Command, a *app, model string, o quantizeOptions) error {
	// A zero would mean the default to the library; here it was typed.
	if o.bits < 1 || o.groupRows < 1 {
		return fault.Usagef("--bits and --group-rows are positive numbers")
	}
	opts := quantize.Options{
		Model: model, Out: o.out, Bits: o.bits, GroupRows: o.groupRows, RowScale: o.rowScale, Restart: o.restart,
		Progress: a.progress(), ToolVersion: version, Compensate: o.compensate,
		Calibration: sensitivity.CalibrationOptions{Files: o.calib, Tokens: o.tokens, SeqLen: o.seqLen, Seed: o.seed},
	}
	for _, s := range o.overrides {
		ov, err := sensitivity.ParseOverride(s)
		if err != nil {
			return err
		}
		opts.Overrides = append(opts.Overrides, ov)
	}
	r, err := quantize.Run(cmd.Context(), a.workers(), opts)
	if err != nil {
		return err
	}
	object := quantizeObject{"afmq.quantize/v1", model, o.out, r}
	return a.print(object, func(w io.Writer) error {
		if err := printResult(w, r); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\nwrote %s\n", o.out)
		return err
	})
}

func printResult(w io.Writer, r *quantize.Result) error {
	if err := printLedger(w, r.Ledger); err != nil {
		return err
	}
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "\nbits per weight\t%.4f in projections, %.4f in the model\n", r.BPW.Projections, r.BPW.Model)
		fmt.Fprintf(w, "content hash\t%s\n", r.ContentHash)
		fmt.Fprintf(w, "time\t%.1f s, %s at most in memory\n", r.Seconds, size(r.PeakRSSBytes))
	})
}
