package serve

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"

	"afmq/pkg/batch"
	"afmq/pkg/chat"
	"afmq/pkg/tokenizer"
)

// conversation is a conversation and how its template is rendered. Completions of chats and
// /tokenize have it in common.
type conversation struct {
	Messages []chat.Message    `json:"messages"`
	Tools    []json.RawMessage `json:"tools"`
	// AddGenerationPrompt, ContinueFinalMessage and Variables are arguments of the template; the
	// first is true by default.
	AddGenerationPrompt  *bool                      `json:"add_generation_prompt"`
	ContinueFinalMessage bool                       `json:"continue_final_message"`
	Variables            map[string]json.RawMessage `json:"chat_template_kwargs"`
}

// encode renders the conversation and returns its tokens. The template writes special tokens
// itself.
func (c *conversation) encode(s *Server, t *tokenizer.Tokenizer) (prompt, error) {
	if s.opts.Template == nil {
		if s.opts.NoTemplate != nil {
			return prompt{}, invalid("messages", "conversations cannot be rendered: %v; use /v1/completions", withoutFile(s.opts.NoTemplate))
		}
		return prompt{}, invalid("messages", "this model has no chat template; use /v1/completions")
	}
	if len(c.Messages) == 0 {
		return prompt{}, invalid("messages", "messages is missing or empty")
	}
	o := chat.RenderOptions{
		Tools: c.Tools, AddGenerationPrompt: !c.ContinueFinalMessage, ContinueFinalMessage: c.ContinueFinalMessage,
		ParseArguments: true, Now: s.now(), Variables: map[string]any{},
	}
	if c.AddGenerationPrompt != nil {
		o.AddGenerationPrompt = *c.AddGenerationPrompt
	}
	for name, v := range c.Variables {
		o.Variables[name] = v
	}
	text, err := s.opts.Template.Render(c.Messages, o)
	if err != nil {
		return prompt{}, invalid("messages", "the chat template: %v", withoutFile(err))
	}
	return prompt{ids: t.Encode(text, false).IDs, text: text}, nil
}

// chatRequest is the body of POST /v1/chat/completions.
type chatRequest struct {
	sampling
	conversation
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	LogProbs            bool            `json:"logprobs"`
	TopLogProbs         *int            `json:"top_logprobs"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
	ParallelToolCalls   *bool           `json:"parallel_tool_calls"`
	ResponseFormat      *responseFormat `json:"response_format"`
	ReasoningEffort     *string         `json:"reasoning_effort"`
}

type responseFormat struct {
	Type   string          `json:"type"`
	Schema json.RawMessage `json:"json_schema"`
}

func (c *chatRequest) check() error {
	if err := c.sampling.check(); err != nil {
		return err
	}
	most := c.MaxCompletionTokens
	if most == nil {
		most = c.MaxTokens
	}
	c.MaxTokens = most
	switch {
	case most != nil && *most < 1:
		return invalid("max_completion_tokens", "max_completion_tokens is %d; expected 1 or more", *most)
	case c.ResponseFormat != nil && c.ResponseFormat.Type != "text":
		return newError(400, "invalid_request_error", "response_format", "unsupported_parameter",
			"response_format %q is not supported by this server; it has \"text\"", c.ResponseFormat.Type)
	case c.TopLogProbs != nil && !c.LogProbs:
		return invalid("top_logprobs", "top_logprobs needs logprobs")
	case c.ParallelToolCalls != nil && !*c.ParallelToolCalls:
		return unsupported("parallel_tool_calls")
	case c.ReasoningEffort != nil:
		return newError(400, "invalid_request_error", "reasoning_effort", "unsupported_parameter",
			"reasoning_effort is not supported by this server; chat_template_kwargs has the variables of the template")
	}
	switch string(bytes.TrimSpace(c.ToolChoice)) {
	case "", "null", `"auto"`, `"none"`:
	default:
		return newError(400, "invalid_request_error", "tool_choice", "unsupported_parameter",
			"tool_choice %s is not supported by this server; it has \"auto\" and \"none\"", c.ToolChoice)
	}
	if c.TopLogProbs != nil {
		return between("top_logprobs", *c.TopLogProbs, 0, maxTop)
	}
	return nil
}

// chatCompletions answers POST /v1/chat/completions.
func (s *Server) chatCompletions(w http.ResponseWriter, r *http.Request) error {
	var c chatRequest
	if err := s.decode(w, r, &c); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	m, name, err := s.named(c.Model)
	if err != nil {
		return err
	}
	observe(r).model = name
	if string(bytes.TrimSpace(c.ToolChoice)) == `"none"` {
		c.Tools = nil
	}
	if err := s.checkCount(1, c.n()); err != nil {
		return err
	}
	release, err := s.turn(r)
	if err != nil {
		return err
	}
	p, err := c.conversation.encode(s, m.Tokenizer)
	release()
	if err != nil {
		return err
	}
	if err := s.fits(1, 0, len(p.ids), c.MaxTokens); err != nil {
		return err
	}
	most := s.engine.Ctx() - len(p.ids)
	if c.MaxTokens != nil {
		most = *c.MaxTokens
	}
	if c.LogProbs && c.n()*most > maxScores/(1+top(c.TopLogProbs)) {
		return invalid("logprobs", "logprobs of so many tokens are too much for one request; at most %d log-probabilities are possible", maxScores)
	}
	g := &generation{server: s, sampling: &c.sampling, name: name, format: chatFormat{request: &c, tokenizer: m.Tokenizer}}
	for range c.n() {
		g.add(m, p, &batch.Request{
			Model: m, Prompt: p.ids, MaxTokens: most, IgnoreEOS: c.IgnoreEOS, Score: c.LogProbs, Top: top(c.TopLogProbs),
		})
	}
	return g.run(w, r)
}

// chatFormat makes the objects of the chat completions API.
type chatFormat struct {
	request   *chatRequest
	tokenizer *tokenizer.Tokenizer
}

type chatChoice struct {
	Index        int         `json:"index"`
	Message      *chatText   `json:"message,omitempty"`
	Delta        *chatDelta  `json:"delta,omitempty"`
	LogProbs     *chatScores `json:"logprobs"`
	FinishReason *string     `json:"finish_reason"`
}

type chatText struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

type chatDelta struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content"`
}

type chatScores struct {
	Content []chatToken `json:"content"`
	Refusal *string     `json:"refusal"`
}

type chatToken struct {
	chatLogProb
	Top []chatLogProb `json:"top_logprobs"`
}

type chatLogProb struct {
	Token   string  `json:"token"`
	LogProb float64 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

func (f chatFormat) object(stream bool) (id, object string) {
	if stream {
		return "chatcmpl", "chat.completion.chunk"
	}
	return "chatcmpl", "chat.completion"
}

// before is nothing: the answer is a text of its own.
func (f chatFormat) before(prompt) []int32 { return nil }

// choice is the whole answer.
func (f chatFormat) choice(c *choice) any {
	return chatChoice{
		Index: c.index, Message: &chatText{Role: "assistant", Content: c.answer.Text()},
		LogProbs: f.scores(c.answer.Tokens(), c.end()), FinishReason: c.finish,
	}
}

// piece is a part of a streamed answer.
func (f chatFormat) piece(c *choice, p piece) any {
	d := &chatDelta{Content: p.text}
	if p.first {
		d.Role = "assistant"
	}
	return chatChoice{Index: c.index, Delta: d, LogProbs: f.scores(p.tokens, p.end), FinishReason: p.finish}
}

// scores are the log-probabilities of tokens, and of the one that ended the answer, if they are wanted.
func (f chatFormat) scores(tokens []batch.Placed, end *batch.Token) *chatScores {
	if !f.request.LogProbs {
		return nil
	}
	out := &chatScores{Content: []chatToken{}}
	if end != nil {
		tokens = append(slices.Clip(tokens), batch.Placed{Token: *end})
	}
	for _, t := range tokens {
		c := chatToken{chatLogProb: f.logProb(t.ID, t.LogProb), Top: []chatLogProb{}}
		for _, o := range t.Top {
			c.Top = append(c.Top, f.logProb(o.ID, o.LogProb))
		}
		out.Content = append(out.Content, c)
	}
	return out
}

func (f chatFormat) logProb(id int32, p float64) chatLogProb {
	b := f.tokenizer.TokenBytes(id)
	out := chatLogProb{Token: tokenText(f.tokenizer, id), LogProb: p, Bytes: make([]int, len(b))}
	for i, c := range b {
		out.Bytes[i] = int(c)
	}
	return out
}
