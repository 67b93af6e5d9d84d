package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

type generateOptions struct {
	prompt      string
	maxTokens   int
	temperature float64
	topK        int
	topP        float64
	seed        uint64
	ignoreEOS   bool
	adapters    adapterFlags
	compute     computeFlag
	arithmetic  compute.Arithmetic
}

type generateObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Prompt string `json:"prompt"`
	continuation
	Temperature float64 `json:"temperature"`
	Seed        uint64  `json:"seed"`
	Compute     string  `json:"compute"`
	// Adapters are the continuations with each adapter, of which the first stands above.
	Adapters []adapterContinuation `json:"adapters,omitempty"`
}

type adapterContinuation struct {
	Name string `json:"name"`
	Path string `json:"path"`
	continuation
}

// continuation is what a model wrote.
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
		Short: "Continue a prompt with a checkpoint or an artifact",
		Long: `Continues TEXT with the model at PATH and prints the continuation as it comes.
The default takes the most likely token each time; --temperature 1 samples from
the model's own distribution, and the same --seed gives the same text.

With --adapter the model runs with the adapter; more than one continue the prompt one
after the other, on one base in memory.`,
		Example: `  afmq generate my-4bit --prompt "It was a dark" --max-tokens 40
  afmq generate my-4bit --prompt "It was a dark" --temperature 0.8 --top-p 0.95 --seed 7
  afmq generate my-4bit --prompt "It was a dark" --adapter recovered/rank-16`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runGenerate(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.prompt, "prompt", "", "`TEXT` to continue")
	f.IntVar(&o.maxTokens, "max-tokens", 128, "`N` tokens to write at most")
	f.Float64Var(&o.temperature, "temperature", 0, "`T` of 0 for the most likely token, of 1 for the model's distribution")
	f.IntVar(&o.topK, "top-k", 0, "sample among the `K` most likely tokens (default: all)")
	f.Float64Var(&o.topP, "top-p", 1, "sample among the most likely tokens that together have probability `P`")
	f.Uint64Var(&o.seed, "seed", 0, "`SEED` of the sampling")
	f.BoolVar(&o.ignoreEOS, "ignore-eos", false, "go on past an end-of-sequence token")
	o.adapters.register(f)
	o.compute.register(f, "auto")
	must(cmd.MarkFlagRequired("prompt"))
	return cmd
}

func (o *generateOptions) check() error {
	switch {
	case o.maxTokens < 1:
		return fault.Usagef("--max-tokens %d is not a positive number", o.maxTokens)
	case !(o.temperature >= 0) || o.temperature > 100:
		return fault.Usagef("--temperature %v does not lie between 0 and 100", o.temperature)
	case o.topK < 0:
		return fault.Usagef("--top-k %d is negative", o.topK)
	case !(o.topP > 0 && o.topP <= 1):
		return fault.Usagef("--top-p %v does not lie between 0 and 1", o.topP)
	}
	return nil
}

func runGenerate(cmd *cobra.Command, a *app, path string, o generateOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	var err error
	if o.arithmetic, err = o.compute.choose(true); err != nil {
		return err
	}
	model, err := infer.Open(path, a.workers())
	if err != nil {
		return err
	}
	if most := model.Tokenizer.MaxText(); len(o.prompt) > most {
		return fault.Usagef("--prompt has %d bytes; the tokenizer takes %d at once", len(o.prompt), most)
	}
	variants, err := o.adapters.open(model)
	if err != nil {
		return err
	}
	if len(variants) == 0 {
		variants = []variant{{model: model}}
	}
	out := generateObject{Schema: "afmq.generate/v1", Model: path, Prompt: o.prompt, Temperature: o.temperature, Seed: o.seed, Compute: o.arithmetic.String()}
	prompt := model.Tokenizer.Encode(o.prompt, true).IDs
	for i, v := range variants {
		if len(variants) > 1 && !a.wantJSON {
			if _, err := fmt.Fprintf(a.stdout, "[%s]\n", v.name); err != nil {
				return outputError(err)
			}
		}
		c, err := o.run(cmd.Context(), a, v.model, prompt)
		if err != nil {
			return err
		}
		if i == 0 {
			out.continuation = *c
		}
		if v.name != "" {
			out.Adapters = append(out.Adapters, adapterContinuation{v.name, v.dir, *c})
		}
	}
	if !a.wantJSON {
		return nil
	}
	return a.print(out, nil)
}

// run continues the prompt with one model, and prints the text as it comes unless JSON is
// wanted.
func (o *generateOptions) run(ctx context.Context, a *app, model *infer.Model, prompt []int32) (*continuation, error) {
	opts := infer.GenerateOptions{
		MaxTokens: o.maxTokens,
		IgnoreEOS: o.ignoreEOS,
		Sampler:   infer.Sampler{Temperature: o.temperature, TopK: o.topK, TopP: o.topP},
	}
	opts.Sampler.Seed(o.seed)
	var failed error
	if !a.wantJSON {
		opts.Emit = func(_ int32, text string) {
			if _, err := io.WriteString(a.stdout, text); err != nil && failed == nil {
				failed = err
			}
		}
	}
	begun := time.Now()
	g, err := model.Generate(ctx, a.workers().With(o.arithmetic), prompt, opts)
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
