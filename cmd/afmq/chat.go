package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"afmq/pkg/batch"
	"afmq/pkg/chat"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

type chatOptions struct {
	system   string
	template string
	sampling samplingFlags
	adapters adapterFlags
	verify   bool
	compute  computeFlag
}

// chatObject is the conversation.
type chatObject struct {
	Schema      string        `json:"schema"`
	Model       string        `json:"model"`
	Messages    []chatMessage `json:"messages"`
	Temperature float64       `json:"temperature"`
	Seed        uint64        `json:"seed"`
	Compute     string        `json:"compute"`
}

// chatMessage is a message of a conversation. Of the model's messages it has how they came about.
type chatMessage struct {
	Role    string      `json:"role"`
	Content string      `json:"content"`
	Answer  *chatAnswer `json:"answer,omitempty"`
}

type chatAnswer struct {
	Adapter         string  `json:"adapter"` // empty for none
	PromptTokens    int     `json:"prompt_tokens"`
	CachedTokens    int     `json:"cached_tokens"`
	Tokens          int     `json:"tokens"`
	StopReason      string  `json:"stop_reason"` // as of generate, or "interrupt"
	TokensPerSecond float64 `json:"tokens_per_second"`
}

func newChatCommand(a *app) *cobra.Command {
	var o chatOptions
	cmd := &cobra.Command{
		Use:   "chat PATH",
		Short: "Talk to a model in the terminal",
		Long: `Talks to the model at PATH, a directory or a GGUF file, by its chat template. A line is a
message; one that ends with \ goes on in the next. Ctrl-C stops an answer, and ends the chat
where a message is expected, as Ctrl-D does. The arrow keys bring earlier lines back.

` + chatCommands + `

The same messages and --seed give the same answers. Without a terminal, each line of standard
input is a message, and one that cannot be answered ends the chat with an error. With --json,
the conversation is printed at the end.`,
		Example: `  afmq chat my-4bit-chat
  afmq chat my-4bit-chat --adapter recovered/rank-16 --system "Answer in one sentence."
  echo "What is a palette?" | afmq chat my-4bit-chat`,
		RunE: func(cmd *cobra.Command, args []string) error { return runChat(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.system, "system", "", "`TEXT` of the system's message")
	registerTemplate(f, &o.template)
	o.sampling.register(f, "", 0.7)
	f.Lookup("max-tokens").Usage = "generate at most `N` tokens for an answer (default: what the context holds)"
	f.BoolVar(&o.verify, "verify", true, verifyUsage)
	o.adapters.register(f)
	o.compute.register(f, "auto")
	return cmd
}

func runChat(cmd *cobra.Command, a *app, path string, o chatOptions) error {
	maxTokens := 0
	var err error
	if o.sampling.maxTokens == "" {
		o.sampling.maxTokens = "1" // the limit is that of the context
		_, err = o.sampling.check(a)
	} else {
		maxTokens, err = o.sampling.check(a)
	}
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
	// Before a large model is read, it is known whether it can chat.
	template, err := openTemplate(path, o.template)
	if err != nil {
		return err
	}
	model, err := infer.Open(cmd.Context(), path, infer.OpenOptions{SkipVerify: !o.verify, Pool: a.workers(), Progress: a.progress()})
	if err != nil {
		return err
	}
	variants, err := eval.OpenAdapters(model, adapters, o.adapters.allowUnbound)
	if err != nil {
		return err
	}
	a.warn(eval.AdapterWarnings(model, variants))
	e, err := batch.New(model, engine)
	if err != nil {
		return err
	}
	defer e.Close(context.Background())
	a.reporter.Done()
	c := &conversation{app: a, engine: e, template: template, variants: variants, sampling: o.sampling, maxTokens: maxTokens}
	c.interactive = term.IsTerminal(int(os.Stdin.Fd()))
	c.start(o.system)
	if len(variants) > 0 {
		c.variant = &variants[0]
	}
	ctx, end := context.WithCancelCause(cmd.Context())
	defer end(nil)
	if c.interactive { // Ctrl-C where a message is expected ends the chat as Ctrl-D does
		defer a.onInterrupt(func() { end(io.EOF) })()
	}
	if err := c.talk(ctx, newLines(a)); err != nil {
		return err
	}
	if !a.wantJSON {
		return nil
	}
	return a.print(chatObject{"afmq.chat/v1", path, c.messages, o.sampling.temperature, o.sampling.seed, engine.Decode.String()}, nil)
}

// conversation is a chat that is under way.
type conversation struct {
	app       *app
	engine    *batch.Engine
	template  *chat.Template
	variants  []eval.Variant
	variant   *eval.Variant // nil for the base
	sampling  samplingFlags
	maxTokens int // 0 for what the context holds
	system    string
	messages  []chatMessage
	answers   uint64 // so far; each has a seed of its own

	interactive bool // a person types: a mistake does not end the chat, and Ctrl-C stops an answer
}

// start begins a conversation.
func (c *conversation) start(system string) {
	c.system, c.messages = system, []chatMessage{}
	if system != "" {
		c.messages = []chatMessage{{Role: "system", Content: system}}
	}
}

// talk answers lines until they end.
func (c *conversation) talk(ctx context.Context, in lines) error {
	for {
		text, err := c.next(ctx, in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := checkMessage(text); err != nil {
			if err := c.refuse(err); err != nil {
				return err
			}
			continue
		}
		switch {
		case strings.TrimSpace(text) == "":
		case strings.HasPrefix(text, "/"):
			end, err := c.command(ctx, text)
			if end || err != nil {
				return err
			}
		default:
			c.messages = append(c.messages, chatMessage{Role: "user", Content: text})
			if err := c.answer(ctx); err != nil {
				return err
			}
		}
	}
}

// next returns the next line with those that it goes on in.
func (c *conversation) next(ctx context.Context, in lines) (string, error) {
	text, err := in.next(ctx, c.prompt())
	for err == nil && strings.HasSuffix(text, `\`) {
		text = strings.TrimSuffix(text, `\`)
		var more string
		more, err = in.next(ctx, "... ")
		if err == io.EOF && !c.interactive { // the input ends; what is there is a message
			return text, nil
		}
		text += "\n" + more
	}
	return text, err
}

// refuse tells a person why a message is not answered. Without one it returns the error, which ends
// the chat.
func (c *conversation) refuse(err error) error {
	if !c.interactive {
		return err
	}
	c.say("%v", err)
	var f *fault.Error
	if errors.As(err, &f) && f.Hint != "" {
		c.say("hint: %s", f.Hint)
	}
	return nil
}

// prompt is shown where a message is expected.
func (c *conversation) prompt() string {
	if c.variant != nil {
		return escapeControls(c.variant.Name) + "> "
	}
	return "> "
}

// say tells the user something that is no part of the conversation.
func (c *conversation) say(format string, args ...any) {
	fmt.Fprintf(c.app.stderr, format+"\n", args...)
}

// answer generates the answer to the last message. A conversation that cannot be rendered or that
// exceeds the context is left without the message, which is refused.
func (c *conversation) answer(ctx context.Context) error {
	ids, err := c.encode()
	if err != nil {
		c.messages = c.messages[:len(c.messages)-1]
		return c.refuse(err)
	}
	model := c.engine.Model()
	r := &batch.Request{Prompt: ids, MaxTokens: c.engine.Ctx(), Sampler: c.sampling.sampler(c.answers)}
	if c.maxTokens > 0 {
		r.MaxTokens = c.maxTokens
	}
	c.answers++
	out := &chatAnswer{PromptTokens: len(ids)}
	if c.variant != nil {
		r.Model, out.Adapter = c.variant.Model, c.variant.Name
	}
	text := batch.NewAnswer(model.Tokenizer, nil, c.sampling.stops)
	var failed error
	write := func(s string) {
		if c.app.wantJSON || failed != nil {
			return
		}
		_, failed = io.WriteString(c.app.stdout, escapeControls(s))
	}
	r.Emit = func(t batch.Token) bool {
		out.Tokens++
		part, stop := text.Add(t)
		write(part)
		return stop || failed != nil
	}
	answering, stop := context.WithCancel(ctx)
	defer stop()
	if c.interactive { // Ctrl-C ends the answer, not the chat
		defer c.app.onInterrupt(stop)()
	}
	begun := time.Now()
	results, err := c.engine.Do(answering, r)
	took := time.Since(begun)
	switch {
	case err == nil:
		out.StopReason, out.CachedTokens = string(results[0].Reason), results[0].Cached
	case ctx.Err() != nil:
		write("\n")
		return context.Cause(ctx)
	case answering.Err() != nil:
		out.StopReason = "interrupt"
	default:
		return err
	}
	write(text.End() + "\n")
	if failed != nil {
		return outputError(failed)
	}
	out.TokensPerSecond = rate(float64(out.Tokens), took)
	c.messages = append(c.messages, chatMessage{"assistant", text.Text(), out})
	if !c.app.quiet && !c.app.wantJSON {
		c.say("[%d tokens, %.1f tokens/s, stopped by %s]", out.Tokens, out.TokensPerSecond, out.StopReason)
	}
	return nil
}

// encode returns the tokens of the conversation up to the answer.
func (c *conversation) encode() ([]int32, error) {
	var list []chat.Message
	for _, m := range c.messages {
		list = append(list, chat.Message{Role: m.Role, Content: m.Content})
	}
	text, err := c.template.Render(list, chat.RenderOptions{AddGenerationPrompt: true})
	if err != nil {
		return nil, err
	}
	tokenizer := c.engine.Model().Tokenizer
	if most := tokenizer.MaxText(); len(text) > most {
		return nil, fault.Usagef("the conversation has %d bytes; the tokenizer encodes at most %d at once", len(text), most).WithHint("/clear starts anew")
	}
	ids := tokenizer.Encode(text, false).IDs
	switch ctx := c.engine.Ctx(); {
	case len(ids) == 0:
		return nil, fault.Usagef("the conversation has no tokens; the chat template makes no text of it")
	case len(ids) >= ctx:
		return nil, fault.Infeasiblef("the conversation has %d tokens; the context has %d", len(ids), ctx).WithHint("/clear starts anew")
	}
	return ids, nil
}
