package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"afmq/pkg/recovery"
)

// tuneOptions are the flags of tune. Those that need parsing are beside the embedded
// recovery.TuneOptions, into which the others are read.
type tuneOptions struct {
	recovery.TuneOptions
	trainingFlags
	what    string
	compute computeFlag
	dryRun  dryRunFlag
}

type tuneObject struct {
	Schema string `json:"schema"`
	Out    string `json:"out"`
	*recovery.TuneResult
}

func newTuneCommand(a *app) *cobra.Command {
	var o tuneOptions
	cmd := &cobra.Command{
		Use:   "tune ARTIFACT --teacher MODEL --data FILE --out DIR",
		Short: "Train the numbers that an artifact stores, at the same size",
		Long: `Trains the numbers that ARTIFACT stores, so that its predictions approach those of the
16-bit model it was made from, and writes an artifact of the same format and size to DIR.
Exports and adapters work as before; an adapter belongs to the artifact that it was trained
on, so run recover after tune.

--what, the numbers to train:
  tables     entries of look-up tables
  scales     scales of rows and groups, biases of groups, factors of llama.cpp's blocks
  norms      weights of norms, and biases of projections
  embedding  all numbers of the embedding and the head
  indices    which entry or level each weight of a projection has

The text is divided as recover divides it: training text, validation text, which chooses the
step whose numbers are stored, and test text, which chooses nothing. Report the test figures.
DIR also receives tuning.json and metrics.jsonl, and its manifest names the artifact before.

--loss, what training minimizes:
  kl   KL divergence from the teacher (default)
  ce   cross-entropy of the text
  mix  --mix · kl + (1 − --mix) · ce

--compute bf16 trains in mixed precision: the models' products round their operands to
bfloat16; sums and the optimizer stay in float32.

Training takes about 24 bytes of memory for each number. With indices, which are not among the
default, that is for each weight of the model; with embedding, for each of embedding and head.

An interrupted command continues when it is given again, and its files have the same bytes
as without the interruption.`,
		Example: `  afmq tune my-2bit --teacher models/my-model --data train.jsonl --out my-2bit-tuned
  afmq tune my-3.5bit --teacher models/my-model --data train.jsonl --what tables,scales,norms --tokens 500k --out tuned`,
		RunE: func(cmd *cobra.Command, args []string) error { return runTune(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	o.register(f, trainingTargets{
		teacher: &o.Teacher, data: &o.Data, mix: &o.Mix, temperature: &o.Temperature,
		rate: &o.Rate, warmup: &o.Warmup, clip: &o.Clip, seqLen: &o.SeqLen, seed: &o.Seed, recompute: &o.Recompute, restart: &o.Restart,
		defaultRate: recovery.DefaultTuneRate, rateHelp: "peak learning `RATE`, about the relative change of a number in a step",
		tokensHelp: "`N` tokens to train on, for example 500k or 10M",
		batchHelp:  "`N` tokens in a step (default: 2048, or --seq-len where that is more)",
		seedHelp:   "`SEED` of the order of the text and of what is held out",
	})
	registerOut(f, &o.Out, outDir, "`DIR` to write; must not exist, or be empty")
	f.StringVar(&o.what, "what", "", "`NUMBERS` to train, separated by commas (default: tables,scales,norms,embedding)")
	o.compute.register(f, "f32")
	o.dryRun.register(f)
	must(cmd.MarkFlagRequired("teacher"))
	must(cmd.MarkFlagRequired("data"))
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

// options combines the flags.
func (o *tuneOptions) options(cmd *cobra.Command, a *app, artifact string) (recovery.TuneOptions, error) {
	r := o.TuneOptions
	r.Artifact, r.Loss = artifact, recovery.Loss(o.loss)
	r.Pool, r.Progress, r.ToolVersion = a.workers(), a.progress(), version
	var err error
	if r.Compute, err = o.compute.choose(false); err != nil {
		return r, err
	}
	if err := o.check(cmd.Flags()); err != nil {
		return r, err
	}
	noneFor(&r.Warmup, &r.Clip)
	if cmd.Flags().Changed("what") {
		for n := range strings.SplitSeq(o.what, ",") {
			r.Numbers = append(r.Numbers, recovery.Numbers(strings.TrimSpace(n)))
		}
	}
	return r, setCounts([]count{
		{"tokens", o.tokens, func(n int64) { r.Tokens = n }},
		{"batch-tokens", o.batchTokens, func(n int64) { r.BatchTokens = int(n) }},
		{"validation-tokens", o.validation, func(n int64) { r.Validation = int(n) }},
	})
}

func runTune(cmd *cobra.Command, a *app, artifact string, o tuneOptions) error {
	opts, err := o.options(cmd, a, artifact)
	if err != nil {
		return err
	}
	if o.dryRun.on {
		e, err := recovery.EstimateTune(cmd.Context(), opts)
		if err != nil {
			return err
		}
		e.SetMachine(a.memoryBytes, filepath.Dir(opts.Out))
		return o.dryRun.print(a, "tune", opts.Out, "give --what tables,scales,norms, --recompute, or a smaller --batch-tokens or --seq-len", e)
	}
	r, err := recovery.Tune(cmd.Context(), opts)
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	out := tuneObject{"afmq.tune/v1", opts.Out, r}
	return a.print(out, func(w io.Writer) error { return printTuning(w, out) })
}

// printTuning prints the figures before and after, on the validation text, which chose the step, and
// on the test text.
func printTuning(w io.Writer, o tuneObject) error {
	if err := printTuneFigures(w, o.TuneResult); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "text\t%s tokens to train on, %s for validation, %s for test, %s excluded\n",
			thousands(int64(o.TrainTokens)), thousands(int64(o.ValidationTokens)), thousands(int64(o.TestTokens)), thousands(int64(o.ExcludedTokens)))
		fmt.Fprintf(w, "trained\t%s numbers on %s tokens; stored are those of step %d of %d\n", thousands(o.Values), thousands(o.Tokens), o.Step, o.Steps)
		fmt.Fprintf(w, "bits per weight\t%.4f projections, %.4f model\n", o.BPW.Projections, o.BPW.Model)
		fmt.Fprintf(w, "size\t%s\n", size(o.Bytes))
		fmt.Fprintf(w, "content hash\t%s, before %s\n", o.ContentHash, o.Parent)
		fmt.Fprintf(w, "speed\t%.0f tokens/s, %.1f s in all\n", o.TokensPerSecond, o.Seconds)
		fmt.Fprintf(w, "wrote\t%s\n", whole(o.Out))
	})
}

// printTuneFigures prints a table.
func printTuneFigures(w io.Writer, o *recovery.TuneResult) error {
	return table(w, func(w io.Writer) {
		fmt.Fprint(w, "\tvalidation\t\ttest\t\n")
		fmt.Fprint(w, "\tperplexity\tKL\tperplexity\tKL\n")
		v, t := o.Validation, o.Test
		fmt.Fprintf(w, "before\t%.4f\t%.6f\t%.4f\t%.6f\n", v.PerplexityBefore, v.KLBefore, t.PerplexityBefore, t.KLBefore)
		fmt.Fprintf(w, "tuned\t%.4f\t%.6f\t%.4f\t%.6f\n", v.PerplexityAfter, v.KLAfter, t.PerplexityAfter, t.KLAfter)
		fmt.Fprintf(w, "teacher\t%.4f\t\t%.4f\t\n", v.PerplexityTeacher, t.PerplexityTeacher)
	})
}
