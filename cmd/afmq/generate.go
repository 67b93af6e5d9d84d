package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

type generateOptions struct {
	prompt      string
	maxTokens   string // a count
	temperature float64
	topK        int
	topP        float64
	seed        uint64
	ignoreEOS   bool
	adapters    adapterFlags
	verify      bool
	compute     computeFlag
}

type generateObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Prompt string `json:"prompt"`
	continuation
	Temperature float64 `json:"temperature"`
	Seed        uint64  `json:"seed"`
	Compute     string  `json:"compute"`
	// Adapters are the continuations with each adapter; the fields above are the first's.
	Adapters []adapterContinuation `json:"adapters,omitempty"`
}

type adapterContinuation struct {
	Name string `json:"name"`
	Path string `json:"path"`
	continuation
}

// continuation is a text that a model generated.
type continuation struct {
	Text            string  `json:"text"`
	PromptTokens    int     `json:"prompt_tokens"`
	Tokens          []int32 `json:"tokens"`
	StopReason      string  `json:"stop_reason"`
	Seconds         float64 `json:"seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"`
}

func newGenerateCommand(a *app) *cobra.Command {
	var o generateOptions
	cmd := &cobra.Command{
		Use:   "generate PATH --prompt TEXT",
		Short: "Continue a prompt with a checkpoint, artifact or GGUF file",
		Long: `Continues TEXT with the model at PATH, a directory or a GGUF file, and prints each
character as soon as it is complete. By default the most likely token is taken each time.
--temperature 1 samples from the model's distribution; the same --seed gives the same text.

Control characters in the text other than line feed and tab are printed escaped (\x1b), on
a terminal and in a pipe. --json prints the exact text.

With --adapter the model runs with the adapter. Several adapters continue the prompt one
after the other, on one base in memory.

An artifact is verified as it is loaded: its tensors, config.json and tokenizer.json are
hashed and compared with manifest.json.`,
		Example: `  afmq generate my-4bit --prompt "It was a dark" --max-tokens 40
  afmq generate my-4bit --prompt "It was a dark" --temperature 0.8 --top-p 0.95 --seed 7
  afmq generate my-4bit --prompt "It was a dark" --adapter recovered/rank-16`,
		RunE: func(cmd *cobra.Command, args []string) error { return runGenerate(cmd.Context(), a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.prompt, "prompt", "", "`TEXT` to continue")
	f.StringVar(&o.maxTokens, "max-tokens", "128", "generate at most `N` tokens; the model's context is a limit, too")
	f.Float64Var(&o.temperature, "temperature", 0, "divide the logits by `T`: 0 takes the most likely token, 1 samples from the model's distribution")
	f.IntVar(&o.topK, "top-k", 0, "sample among the `K` most likely tokens (default: all)")
	f.Float64Var(&o.topP, "top-p", 1, "sample among the most likely tokens that together have probability `P`")
	f.Uint64Var(&o.seed, "seed", 0, "`SEED` of the random numbers of sampling")
	f.BoolVar(&o.ignoreEOS, "ignore-eos", false, "continue past an end-of-sequence token")
	f.BoolVar(&o.verify, "verify", true, verifyUsage)
	o.adapters.register(f)
	o.compute.register(f, "auto")
	must(cmd.MarkFlagRequired("prompt"))
	return cmd
}

func (o *generateOptions) check() error {
	switch {
	case !(o.temperature >= 0) || o.temperature > 100:
		return fault.Usagef("--temperature %v is not between 0 and 100", o.temperature)
	case o.topK < 0:
		return fault.Usagef("--top-k %d is negative", o.topK)
	case o.topP > 1 && o.topP <= 100:
		return fault.Usagef("--top-p %v is not above 0 and at most 1", o.topP).WithHint("%v %% is %v", o.topP, o.topP/100)
	case !(o.topP > 0 && o.topP <= 1):
		return fault.Usagef("--top-p %v is not above 0 and at most 1", o.topP)
	}
	return nil
}

// maxTemperature is the largest temperature in use: services of language models accept up to 2.
const maxTemperature = 2

func runGenerate(ctx context.Context, a *app, path string, o generateOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.temperature > maxTemperature {
		a.warn([]string{fmt.Sprintf("--temperature %v makes all tokens nearly equally likely; usual are 0.5 to 1.5", o.temperature)})
	}
	maxTokens, err := parseCount("max-tokens", o.maxTokens)
	if err != nil {
		return err
	}
	arithmetic, err := o.compute.choose(true)
	if err != nil {
		return err
	}
	adapters, err := o.adapters.adapters()
	if err != nil {
		return err
	}
	model, err := infer.Open(ctx, path, infer.OpenOptions{SkipVerify: !o.verify, Pool: a.workers(), Progress: a.progress()})
	if err != nil {
		return err
	}
	if most := model.Tokenizer.MaxText(); len(o.prompt) > most {
		return fault.Usagef("--prompt has %d bytes; the tokenizer encodes at most %d at once", len(o.prompt), most)
	}
	variants, err := eval.OpenAdapters(model, adapters, o.adapters.allowUnbound)
	if err != nil {
		return err
	}
	a.warn(eval.AdapterWarnings(model, variants))
	if len(variants) == 0 {
		variants = []eval.Variant{{Model: model}}
	}
	out := generateObject{Schema: "afmq.generate/v1", Model: path, Prompt: o.prompt, Temperature: o.temperature, Seed: o.seed, Compute: arithmetic.String()}
	prompt := model.Tokenizer.Encode(o.prompt, true).IDs
	for i, v := range variants {
		if len(variants) > 1 && !a.wantJSON {
			if _, err := fmt.Fprintf(a.stdout, "[%s]\n", escapeControls(v.Name)); err != nil {
				return outputError(err)
			}
		}
		c, err := o.generate(ctx, a, v.Model, arithmetic, prompt, int(maxTokens))
		if err != nil {
			return err
		}
		if i == 0 {
			out.continuation = *c
		}
		if v.Name != "" {
			out.Adapters = append(out.Adapters, adapterContinuation{v.Name, v.Dir, *c})
		}
	}
	if !a.wantJSON {
		return nil
	}
	return a.print(out, nil)
}

// generate continues the prompt with one model, and prints the text as it is generated unless
// JSON is wanted.
func (o *generateOptions) generate(ctx context.Context, a *app, model *infer.Model, arithmetic compute.Arithmetic, prompt []int32, maxTokens int) (*continuation, error) {
	opts := infer.GenerateOptions{
		MaxTokens: maxTokens,
		IgnoreEOS: o.ignoreEOS,
		Sampler:   infer.Sampler{Temperature: o.temperature, TopK: o.topK, TopP: o.topP},
		Pool:      a.workers().With(arithmetic),
	}
	opts.Sampler.Seed(o.seed)
	var failed error
	if !a.wantJSON {
		opts.Emit = func(_ int32, text string) {
			if _, err := io.WriteString(a.stdout, escapeControls(text)); err != nil && failed == nil {
				failed = err
			}
		}
	}
	begun := time.Now()
	g, err := model.Generate(ctx, prompt, opts)
	if err != nil {
		return nil, err
	}
	took := time.Since(begun)
	c := &continuation{g.Text, g.PromptTokens, g.Tokens, g.StopReason, took.Seconds(), rate(float64(len(g.Tokens)), took)}
	if a.wantJSON {
		return c, nil
	}
	if failed == nil {
		_, failed = fmt.Fprintln(a.stdout)
	}
	if failed != nil {
		return nil, outputError(failed)
	}
	if !a.quiet {
		fmt.Fprintf(a.stderr, "%d tokens, %.1f tokens/s, stopped by %s\n", len(c.Tokens), c.TokensPerSecond, c.StopReason)
	}
	return c, nil
}
