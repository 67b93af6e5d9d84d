package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"afmq/pkg/batch"
	"afmq/pkg/eval"
	"afmq/pkg/infer"
)

type generateOptions struct {
	prompt    promptFlags
	sampling  samplingFlags
	ignoreEOS bool
	adapters  adapterFlags
	verify    bool
	compute   computeFlag
}

// generateObject has the continuations of the first prompt, without adapter or with the first.
type generateObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	promptContinuations
	Temperature   float64 `json:"temperature"`
	Seed          uint64  `json:"seed"`
	Compute       string  `json:"compute"`
	PromptCompute string  `json:"prompt_compute"`
	// Prompts are the continuations of all prompts, if there are several.
	Prompts []promptContinuations `json:"prompts,omitempty"`
}

// promptContinuations are the continuations of a prompt.
type promptContinuations struct {
	Prompt string `json:"prompt"`
	continuation
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
The text ends before a --stop. With --chat the prompt is a message, and the model answers it.

Control characters in the text other than line feed and tab are printed escaped (\x1b), on
a terminal and in a pipe. --json prints the exact text.

With --adapter the model runs with the adapter. With several adapters or prompts, all
continuations are generated at the same time, on one base in memory, and printed in order.
Each is what it would be alone.

An artifact is verified as it is loaded: its tensors, config.json and tokenizer.json are
hashed and compared with manifest.json.`,
		Example: `  afmq generate my-4bit --prompt "It was a dark" --max-tokens 40
  afmq generate my-4bit --prompt "It was a dark" --temperature 0.8 --top-p 0.95 --seed 7
  afmq generate my-4bit --prompt "It was a dark" --adapter recovered/rank-16
  afmq generate my-chat-model --chat --prompt "What is a palette?"
  afmq generate my-4bit --prompt-file prompts.jsonl --json`,
		RunE: func(cmd *cobra.Command, args []string) error { return runGenerate(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	o.prompt.register(f)
	o.sampling.register(f, "128", 0)
	f.BoolVar(&o.ignoreEOS, "ignore-eos", false, "continue past an end-of-sequence token")
	f.BoolVar(&o.verify, "verify", true, verifyUsage)
	o.adapters.register(f)
	o.compute.register(f, "auto")
	return cmd
}

func runGenerate(cmd *cobra.Command, a *app, path string, o generateOptions) error {
	ctx := cmd.Context()
	if err := o.prompt.check(cmd.Flags()); err != nil {
		return err
	}
	maxTokens, err := o.sampling.check(a)
	if err != nil {
		return err
	}
	engine, err := o.compute.engine(a)
	if err != nil {
		return err
	}
	adapters, err := o.adapters.adapters()
	if err != nil {
		return err
	}
	prompts, err := o.prompt.read()
	if err != nil {
		return err
	}
	model, err := infer.Open(ctx, path, infer.OpenOptions{SkipVerify: !o.verify, Pool: a.workers(), Progress: a.progress()})
	if err != nil {
		return err
	}
	ids, err := o.prompt.encode(model, path, prompts)
	if err != nil {
		return err
	}
	variants, err := eval.OpenAdapters(model, adapters, o.adapters.allowUnbound)
	if err != nil {
		return err
	}
	a.warn(eval.AdapterWarnings(model, variants))
	if len(variants) == 0 {
		variants = []eval.Variant{{Model: model}}
	}
	engine.Queue = max(batch.DefaultQueue, len(prompts)*len(variants))
	e, err := batch.New(model, engine)
	if err != nil {
		return err
	}
	defer e.Close(ctx)
	var all []*continuing
	for i := range prompts {
		for _, v := range variants {
			c := &continuing{Answer: batch.NewAnswer(model.Tokenizer, o.prompt.before(ids[i]), o.sampling.stops), label: label(prompts, i, variants, v)}
			c.request = &batch.Request{Model: v.Model, Prompt: ids[i], MaxTokens: maxTokens, Sampler: o.sampling.sampler(0), IgnoreEOS: o.ignoreEOS}
			all = append(all, c)
		}
	}
	if err := a.generate(ctx, e, all); err != nil || !a.wantJSON {
		return err
	}
	var list []promptContinuations
	for i, prompt := range prompts {
		p := promptContinuations{Prompt: prompt, continuation: *all[i*len(variants)].result}
		for k, v := range variants {
			if v.Name != "" {
				p.Adapters = append(p.Adapters, adapterContinuation{v.Name, v.Dir, *all[i*len(variants)+k].result})
			}
		}
		list = append(list, p)
	}
	out := generateObject{
		Schema: "afmq.generate/v1", Model: path, promptContinuations: list[0],
		Temperature: o.sampling.temperature, Seed: o.sampling.seed, Compute: engine.Decode.String(), PromptCompute: engine.Prefill.String(),
	}
	if len(list) > 1 {
		out.Prompts = list
	}
	return a.print(out, nil)
}

// label returns the heading of a continuation; empty if there is only one.
func label(prompts []string, i int, variants []eval.Variant, v eval.Variant) string {
	switch {
	case len(prompts) > 1 && len(variants) > 1:
		return fmt.Sprintf("%d, %s", i+1, v.Name)
	case len(prompts) > 1:
		return fmt.Sprint(i + 1)
	case len(variants) > 1:
		return v.Name
	}
	return ""
}

// continuing is a continuation that is being generated.
type continuing struct {
	*batch.Answer
	label   string
	request *batch.Request
	result  *continuation
}

// generate runs the requests and prints the texts in their order, that of a single one as it is
// generated, unless JSON is wanted.
func (a *app) generate(ctx context.Context, e *batch.Engine, all []*continuing) error {
	var failed error
	write := func(text string) {
		if _, err := io.WriteString(a.stdout, escapeControls(text)); err != nil && failed == nil {
			failed = err
		}
	}
	var requests []*batch.Request
	for _, c := range all {
		c.request.Emit = func(t batch.Token) bool {
			text, stop := c.Add(t)
			if len(all) == 1 && !a.wantJSON {
				write(text)
			}
			return stop || failed != nil
		}
		requests = append(requests, c.request)
	}
	begun := time.Now()
	results, err := e.Do(ctx, requests...)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	for i, c := range all {
		rest := c.End()
		r := results[i]
		if len(all) > 1 {
			took = r.Reading + r.Writing
		}
		c.result = &continuation{c.Text(), len(c.request.Prompt), nil, string(r.Reason), took.Seconds(), rate(float64(len(r.Tokens)), took)}
		for _, t := range r.Tokens {
			c.result.Tokens = append(c.result.Tokens, t.ID)
		}
		if a.wantJSON {
			continue
		}
		if len(all) > 1 {
			write(fmt.Sprintf("[%s]\n%s\n", c.label, c.Text()))
		} else {
			write(rest + "\n")
		}
		if failed != nil {
			return outputError(failed)
		}
		if !a.quiet {
			fmt.Fprintf(a.stderr, "%d tokens, %.1f tokens/s, stopped by %s\n", len(r.Tokens), c.result.TokensPerSecond, r.Reason)
		}
	}
	return nil
}
