package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"afmq/internal/fault"
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
}

type generateObject struct {
	Schema          string  `json:"schema"`
	Model           string  `json:"model"`
	Prompt          string  `json:"prompt"`
	Text            string  `json:"text"`
	PromptTokens    int     `json:"prompt_tokens"`
	Tokens          []int32 `json:"tokens"`
	StopReason      string  `json:"stop_reason"`
	Temperature     float64 `json:"temperature"`
	Seed            uint64  `json:"seed"`
	Compute         string  `json:"compute"`
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
the model's own distribution, and the same --seed gives the same text.`,
		Example: `  afmq generate my-4bit --prompt "It was a dark" --max-tokens 40
  afmq generate my-4bit --prompt "It was a dark" --temperature 0.8 --top-p 0.95 --seed 7`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runGenerate(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.prompt, "prompt", "", "text to continue")
	f.IntVar(&o.maxTokens, "max-tokens", 128, "tokens to write at most")
	f.Float64Var(&o.temperature, "temperature", 0, "0 for the most likely token, 1 for the model's distribution")
	f.IntVar(&o.topK, "top-k", 0, "sample among the k most likely tokens (default: all)")
	f.Float64Var(&o.topP, "top-p", 1, "sample among the most likely tokens that together have this probability")
	f.Uint64Var(&o.seed, "seed", 0, "seed of the sampling")
	f.BoolVar(&o.ignoreEOS, "ignore-eos", false, "go on past an end-of-sequence token")
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
	model, err := infer.Open(path, a.workers())
	if err != nil {
		return err
	}
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
	if most := model.Tokenizer.MaxText(); len(o.prompt) > most {
		return fault.Usagef("--prompt has %d bytes; the tokenizer takes %d at once", len(o.prompt), most)
	}
	begun := time.Now()
	g, err := model.Generate(cmd.Context(), a.workers(), model.Tokenizer.Encode(o.prompt, true).IDs, opts)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	out := generateObject{
		Schema: "afmq.generate/v1", Model: path, Prompt: o.prompt, Text: g.Text,
		PromptTokens: g.PromptTokens, Tokens: g.Tokens, StopReason: g.StopReason,
		Temperature: o.temperature, Seed: o.seed, Compute: "f32",
		Seconds: took.Seconds(), TokensPerSecond: rate(float64(len(g.Tokens)), took),
	}
	if failed != nil {
		return outputError(failed)
	}
	if err := a.print(out, func(w io.Writer) error { _, err := fmt.Fprintln(w); return err }); err != nil {
		return err
	}
	if !a.quiet {
		fmt.Fprintf(a.stderr, "%d tokens, %.1f tokens/s, stopped by %s\n", len(g.Tokens), out.TokensPerSecond, g.StopReason)
	}
	return nil
}
