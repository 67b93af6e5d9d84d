package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
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
	adapters       adapterFlags
	compute        computeFlag
	refCompute     string // empty for that of the model
}

type evalObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Data   string `json:"data"`
	*eval.Result
	Compute string `json:"compute"`
	// ReferenceCompute is null without a reference.
	ReferenceCompute *string `json:"reference_compute"`
	// Overlap with the text that the artifact was calibrated on; null without any.
	Overlap *eval.Overlap `json:"calibration_overlap"`
	// Adapters are the figures of the model with each adapter; those beside are of the
	// model without.
	Adapters []adapterEvaluation `json:"adapters,omitempty"`
	Gate     *gateResult         `json:"gate,omitempty"`
}

type adapterEvaluation struct {
	Name string `json:"name"`
	Path string `json:"path"`
	*eval.Result
}

func newEvalCommand(a *app) *cobra.Command {
	var o evalOptions
	cmd := &cobra.Command{
		Use:   "eval-perplexity PATH --data FILE",
		Short: "Measure perplexity, and the divergence from a reference model",
		Long: `Scores the text in FILE with the checkpoint or artifact at PATH.

A .jsonl file has one {"text": …} a line, each encoded alone with an
end-of-sequence token between; any other file is one text.

Protocols (figures of different ones cannot be compared):
  chunk     windows of --ctx tokens; every token but a window's first is scored
  llamacpp  as llama.cpp: full windows, the second half of each is scored
  stride    windows that start every --stride tokens; each token is scored once

With --reference the text is run through both models, and the divergence is
KL(reference ‖ model) in nats over the scored tokens. --max-ppl-increase and
--max-kl then make the command a gate, with the test of "afmq gate": a limit is
kept only if the upper end of the 95 % interval over the windows is within it
(exit 0) and exceeded if the lower end is above it (exit 5); if the text is too
short to tell, the exit code is 7. At least 8 windows are needed; a smaller --ctx
gives more.

--compute says how products are computed. f32 has the same bits on every machine with
vector instructions; auto, the default, takes what is fastest here and nearly as exact:
split on AMX, i16 with AVX-512 VNNI. The output names what was taken; --reference-compute
f32 with the model itself as --reference measures what that costs.

Each --adapter is measured too, on the same base; the limits then apply to the model
with each adapter, not to the one without.`,
		Example: `  afmq eval-perplexity my-4bit --data held-out.txt
  afmq eval-perplexity my-4bit --data held-out.txt --reference my-model --max-ppl-increase 2% --max-kl 0.02
  afmq eval-perplexity my-4bit --data held-out.txt --reference my-model --adapter r8=recovered/rank-8 --adapter r16=recovered/rank-16`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runEval(cmd, a, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "`FILE` of text to score (.jsonl or text)")
	f.StringVar(&o.reference, "reference", "", "the 16-bit checkpoint `MODEL` to compare with")
	f.StringVar(&o.protocol, "protocol", "chunk", "`PROTOCOL`: chunk, llamacpp or stride")
	f.IntVar(&o.ctx, "ctx", 0, "`N` tokens in a window (default: min(512, max_position_embeddings))")
	f.IntVar(&o.stride, "stride", 0, "`N` tokens between windows, for protocol stride (default: ctx/2)")
	f.StringVar(&o.maxPPLIncrease, "max-ppl-increase", "", "limit of the rise of perplexity over the reference's, a `SHARE` above 0 such as 2%; judged by the interval's upper end")
	f.Float64Var(&o.maxKL, "max-kl", 0, "limit of the mean KL divergence in `NATS` per token, above 0; judged by the interval's upper end")
	o.adapters.register(f)
	o.compute.register(f, "auto")
	f.StringVar(&o.refCompute, "reference-compute", "", "`ARITHMETIC` of the reference's products (default: as --compute)")
	f.BoolVar(&o.allowOverlap, "allow-overlap", false, "score a file that the artifact was calibrated on, or an adapter trained on")
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
	out, err := evaluate(cmd, a, path, o, protocol)
	if err != nil {
		return err
	}
	if limits.any() {
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

func evaluate(cmd *cobra.Command, a *app, path string, o evalOptions, protocol eval.Protocol) (*evalObject, error) {
	compute, err := o.compute.choose(false)
	if err != nil {
		return nil, err
	}
	refCompute := compute
	if o.refCompute != "" {
		if refCompute, err = (&computeFlag{o.refCompute}).choose(false); err != nil {
			return nil, err
		}
	}
	in, err := openSubjects(a, path, o.reference, o.data, &o.adapters)
	if err != nil {
		return nil, err
	}
	model, variants, reference, corpus := in.model, in.variants, in.reference, in.corpus
	out := &evalObject{Schema: "afmq.eval/v1", Model: path, Data: o.data, Compute: compute.String()}
	if reference != nil {
		name := refCompute.String()
		out.ReferenceCompute = &name
	}
	if out.Overlap, err = checkOverlap(a, path, corpus, o.allowOverlap); err != nil {
		return nil, err
	}
	for _, v := range variants {
		if err := checkTrained(a, corpus, v, o.allowOverlap); err != nil {
			return nil, err
		}
	}
	run := func(m *infer.Model) (*eval.Result, error) {
		return eval.Run(cmd.Context(), a.workers().With(compute), m, reference, corpus, eval.Options{
			Protocol: protocol, Ctx: o.ctx, Stride: o.stride, Progress: a.progress(), Reference: &refCompute,
		})
	}
	if out.Result, err = run(model); err != nil {
		return nil, err
	}
	for _, v := range variants {
		e, err := run(v.model)
		if err != nil {
			return nil, err
		}
		out.Adapters = append(out.Adapters, adapterEvaluation{v.name, v.dir, e})
	}
	return out, nil
}

// subjects is what an evaluation reads.
type subjects struct {
	model     *infer.Model
	variants  []variant    // the model with each adapter
	reference *infer.Model // nil for none
	corpus    *eval.Corpus
}

// openSubjects opens the model at path with its adapters, the reference, unless it is empty, and
// the text.
func openSubjects(a *app, path, reference, data string, adapters *adapterFlags) (s subjects, err error) {
	if s.model, err = infer.Open(path, a.workers()); err != nil {
		return s, err
	}
	if s.variants, err = adapters.open(s.model); err != nil {
		return s, err
	}
	if reference != "" {
		if err := model.SameTokenizer(path, reference); err != nil {
			return s, err
		}
		if s.reference, err = infer.Open(reference, a.workers()); err != nil {
			return s, err
		}
	}
	s.corpus, err = eval.ReadCorpus(data, s.model.Tokenizer, s.model.Config.Separator())
	return s, err
}

// checkOverlap refuses a file that the artifact was calibrated on, and warns of a text
// that shares some of it: figures on such a text flatter the artifact.
func checkOverlap(a *app, path string, corpus *eval.Corpus, allow bool) (*eval.Overlap, error) {
	overlap, err := eval.FindOverlap(path, corpus)
	if err != nil || overlap == nil {
		return nil, err
	}
	if overlap.SameFile && !allow {
		return nil, fault.Inputf(corpus.File, "is text that %s was calibrated on; what it scores there says little about other text", path).
			WithHint("score another text, or give --allow-overlap")
	}
	if overlap.Passages > 0 {
		fmt.Fprintf(a.stderr, "warning: %s shares %d of %d passages with the text that %s was calibrated on\n", corpus.File, overlap.Passages, overlap.Of, path)
	}
	return overlap, nil
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

// printFigures prints the figures of one model.
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
	fmt.Fprintf(w, "speed\t%.0f tokens/s in %.1f s (%s)\n", e.TokensPerSecond, e.Seconds, compute)
}

// must panics on an error that only a mistake in this program can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
