package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/gate"
)

// evalOptions are the flags of eval-perplexity.
type evalOptions struct {
	data           string
	reference      string
	protocol       string
	ctx, stride    int
	maxPPLIncrease string
	maxKL          float64
	allowOverlap   bool
	verify         bool
	adapters       adapterFlags
	compute        computeFlag
	refCompute     string // empty for that of the model
	dryRun         dryRunFlag
}

type evalObject struct {
	Schema      string `json:"schema"`
	ToolVersion string `json:"tool_version"`
	Model       string `json:"model"`
	Data        string `json:"data"`
	// Reference is null without one.
	Reference *string       `json:"reference"`
	Identity  eval.Identity `json:"identity"`
	*eval.Result
	evalIntervals
	Compute string `json:"compute"`
	// ReferenceCompute is null without a reference.
	ReferenceCompute *string `json:"reference_compute"`
	// Overlap with the text that the artifact was calibrated on; null if it records none.
	Overlap *eval.Overlap `json:"calibration_overlap"`
	// Adapters are the results with each adapter; Result is that without.
	Adapters []adapterEvaluation `json:"adapters,omitempty"`
	Gate     *gateResult         `json:"gate,omitempty"`

	corpus *eval.Corpus // the text, as it was scored
}

type adapterEvaluation struct {
	Name     string               `json:"name"`
	Path     string               `json:"path"`
	Identity eval.AdapterIdentity `json:"identity"`
	*eval.Result
	evalIntervals
}

func newEvalCommand(a *app) *cobra.Command {
	var o evalOptions
	cmd := &cobra.Command{
		Use:   "eval-perplexity PATH --data FILE",
		Short: "Measure perplexity, and the divergence from a reference model",
		Long: `Measures the perplexity of the model at PATH on the text in FILE: a checkpoint, an artifact
or a GGUF file, PATH.gguf.

A .jsonl file has one {"text": …} per line; each text is encoded on its own, and
end-of-sequence tokens separate them. Any other file is one text.

Protocols (figures of different protocols cannot be compared):
  chunk     windows of --ctx tokens; every token but a window's first is scored
  llamacpp  as llama.cpp: full windows; the second half of each is scored
  stride    windows that start every --stride tokens; each token is scored once

With --reference both models run over the text, and the divergence is
KL(reference ‖ model) in nats per scored token. If one of them is a GGUF file, the text must
have the same tokens with both. --max-ppl-increase and
--max-kl then make the command a gate, with the test of "afmq gate": a limit is
kept only if the upper end of the 95 % interval over the windows is within it
(exit 0) and exceeded if the lower end is above it (exit 5); if the text is too
short to tell, the exit code is 7. At least 8 windows are needed; a smaller --ctx
gives more. A gate refuses a text that repeats itself (exit 3): at most 10 % of its
runs of 24 tokens, and 20 % of its runs of about 32 bytes, may occur earlier in it.

--compute selects the arithmetic of matrix products. f32 gives the same bits on every
machine with vector instructions. auto, the default, is the fastest arithmetic of this
machine that is nearly as exact: split on AMX, i16 with AVX-512 VNNI. The output names it.
The speed that it prints counts the tokens of both models if there is a reference.
To measure its error, give the model itself as --reference with --reference-compute f32.

With --adapter the model is evaluated without and with each adapter, in one pass of the
reference; the limits then apply to the model with each adapter.

An artifact is verified as it is loaded: its tensors, config.json and tokenizer.json are
hashed and compared with manifest.json. Of a GGUF file, llama.cpp's architectures llama,
qwen2 and qwen3 are read; what cannot be run is refused by name.`,
		Example: `  afmq eval-perplexity my-4bit --data held-out.txt
  afmq eval-perplexity my-model-Q4_K_M.gguf --data held-out.txt --reference my-model
  afmq eval-perplexity my-4bit --data held-out.txt --reference my-model --max-ppl-increase 2% --max-kl 0.02
  afmq eval-perplexity my-4bit --data held-out.txt --reference my-model --adapter r8=recovered/rank-8 --adapter r16=recovered/rank-16`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runEval(cmd, a, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "`FILE` of text to score (.jsonl or text)")
	f.StringVar(&o.reference, "reference", "", "compare with `MODEL`, the 16-bit checkpoint or a GGUF file")
	f.StringVar(&o.protocol, "protocol", "chunk", "`PROTOCOL`: chunk, llamacpp or stride")
	f.IntVar(&o.ctx, "ctx", 0, "`N` tokens in a window (default: min(512, max_position_embeddings))")
	f.IntVar(&o.stride, "stride", 0, "`N` tokens between windows, for protocol stride (default: ctx/2)")
	f.StringVar(&o.maxPPLIncrease, "max-ppl-increase", "", "limit of the `RISE` of perplexity over the reference's: a percentage such as 2%, or a factor such as 1.02x; judged by the interval's upper end")
	f.Float64Var(&o.maxKL, "max-kl", 0, "limit of the mean KL divergence in `NATS` per token, above 0; judged by the interval's upper end")
	o.adapters.register(f)
	o.compute.register(f, "auto")
	f.StringVar(&o.refCompute, "reference-compute", "", "`ARITHMETIC` of the reference's products (default: as --compute)")
	o.dryRun.register(f)
	f.BoolVar(&o.allowOverlap, "allow-overlap", false, "score a file that the artifact was calibrated on, or an adapter trained on")
	f.BoolVar(&o.verify, "verify", true, verifyUsage)
	must(cmd.MarkFlagRequired("data"))
	return cmd
}

func runEval(cmd *cobra.Command, a *app, path string, o evalOptions) error {
	protocol, err := eval.ParseProtocol(o.protocol)
	if err != nil {
		return err
	}
	if o.ctx < 0 || o.stride < 0 || (cmd.Flags().Changed("ctx") && o.ctx == 0) || (cmd.Flags().Changed("stride") && o.stride == 0) {
		return fault.Usagef("--ctx and --stride are positive numbers of tokens")
	}
	limits, err := o.limits(cmd.Flags())
	if err != nil {
		return err
	}
	if o.refCompute != "" && o.reference == "" {
		return fault.Usagef("--reference-compute needs --reference")
	}
	if o.dryRun.on {
		return o.predict(cmd, a, path, protocol)
	}
	out, err := evaluate(cmd, a, path, o, protocol)
	if err != nil {
		return err
	}
	if limits.any() {
		if err := gate.CheckRepetition(o.data, out.corpus.Repetition()); err != nil {
			return err
		}
		if out.Gate, err = judgeEvaluation(out, limits); err != nil {
			return err
		}
	}
	if err := a.print(out, func(w io.Writer) error { return printEvaluation(w, out) }); err != nil {
		return err
	}
	if out.Gate != nil && !out.Gate.Passed {
		return gateFault(path, out.Gate.Outcome, out.Gate.Failures)
	}
	return nil
}

// options converts the flags to the options of the library.
func (o *evalOptions) options(a *app, path string, protocol eval.Protocol) (opts eval.Options, err error) {
	opts = eval.Options{
		Model: path, Data: o.data, Reference: o.reference,
		AllowUnbound: o.adapters.allowUnbound, AllowOverlap: o.allowOverlap, SkipVerify: !o.verify,
		Protocol: protocol, Ctx: o.ctx, Stride: o.stride, Pool: a.workers(), Progress: a.progress(),
	}
	if opts.Arithmetic, err = o.compute.choose(false); err != nil {
		return opts, err
	}
	reference := opts.Arithmetic
	if o.refCompute != "" {
		if reference, err = (&computeFlag{o.refCompute}).choose(false); err != nil {
			return opts, err
		}
	}
	opts.ReferenceArithmetic = &reference
	opts.Adapters, err = o.adapters.adapters()
	return opts, err
}

// predict prints what the evaluation would take.
func (o *evalOptions) predict(cmd *cobra.Command, a *app, path string, protocol eval.Protocol) error {
	opts, err := o.options(a, path, protocol)
	if err != nil {
		return err
	}
	e, err := eval.Estimate(cmd.Context(), opts)
	if err != nil {
		return err
	}
	e.SetMachine(a.memoryBytes, ".")
	return o.dryRun.print(a, "eval-perplexity", ".", "evaluate the artifact alone, and then the reference", e)
}

func evaluate(cmd *cobra.Command, a *app, path string, o evalOptions, protocol eval.Protocol) (*evalObject, error) {
	opts, err := o.options(a, path, protocol)
	if err != nil {
		return nil, err
	}
	e, err := eval.Run(cmd.Context(), opts)
	if err != nil {
		return nil, err
	}
	a.warn(slices.Concat(limitWarnings(cmd.Flags()), e.Warnings))
	out := &evalObject{
		Schema: "afmq.eval/v1", ToolVersion: version, Model: path, Data: o.data, Identity: e.Identity,
		Result: e.Result, Overlap: e.Overlap, Compute: opts.Arithmetic.String(), corpus: e.Corpus,
	}
	if o.reference != "" {
		name := opts.ReferenceArithmetic.String()
		out.Reference, out.ReferenceCompute = &o.reference, &name
	}
	if out.evalIntervals, err = newIntervals(e.Result); err != nil {
		return nil, err
	}
	for _, r := range e.Adapters {
		a := adapterEvaluation{Name: r.Name, Path: r.Dir, Identity: r.Identity, Result: r.Result}
		if a.evalIntervals, err = newIntervals(r.Result); err != nil {
			return nil, err
		}
		out.Adapters = append(out.Adapters, a)
	}
	return out, nil
}

func printEvaluation(w io.Writer, o *evalObject) error {
	e := o.Result
	return table(w, func(w io.Writer) {
		protocol := fmt.Sprintf("%s, ctx %d", e.Protocol, e.Ctx)
		if e.Stride > 0 {
			protocol += fmt.Sprintf(", stride %d", e.Stride)
		}
		fmt.Fprintf(w, "protocol\t%s\n", protocol)
		fmt.Fprintf(w, "tokens scored\t%s\n", thousands(int64(e.Tokens)))
		if c := e.Comparison; c != nil {
			fmt.Fprintf(w, "reference perplexity\t%.4f\n", c.ReferencePerplexity)
		}
		printFigures(w, e, o.Compute)
		for _, a := range o.Adapters {
			fmt.Fprintf(w, "\nwith adapter\t%s\n", a.Name)
			printFigures(w, a.Result, o.Compute)
		}
		if o.Gate != nil {
			printEvalGate(w, o.Gate)
		}
	})
}

// printFigures prints the result of one model.
func printFigures(w io.Writer, e *eval.Result, compute string) {
	fmt.Fprintf(w, "nats per token\t%.6f\n", e.NatsPerToken)
	fmt.Fprintf(w, "perplexity\t%.4f ± %.4f\n", e.Perplexity, e.PerplexitySE)
	fmt.Fprintf(w, "bits per byte\t%.5f\n", e.BitsPerByte)
	if c := e.Comparison; c != nil {
		fmt.Fprintf(w, "perplexity ratio\t%.6f\n", c.PerplexityRatio)
		fmt.Fprintf(w, "KL to reference, mean\t%.6f nats\n", c.KL.Mean)
		fmt.Fprintf(w, "  median, 99 %%, 99.9 %%, max\t%.6f, %.6f, %.6f, %.6f\n", c.KL.Median, c.KL.P99, c.KL.P999, c.KL.Max)
		fmt.Fprintf(w, "same most likely token\t%.3f %%\n", 100*c.SameTop1)
		fmt.Fprintf(w, "Δp root mean square\t%.3f %%\n", 100*c.DeltaPRMS)
	}
	both := ""
	if e.Comparison != nil {
		both = "of both models "
	}
	fmt.Fprintf(w, "speed\t%.0f tokens/s %sin %.1f s (%s)\n", e.TokensPerSecond, both, e.Seconds, compute)
}

// must panics on an error that only a mistake in this program can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
