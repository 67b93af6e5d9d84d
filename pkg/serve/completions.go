package serve

import (
	"encoding/json"
	"net/http"
	"unicode/utf8"

	"afmq/pkg/batch"
	"afmq/pkg/tokenizer"
)

// completionRequest is the body of POST /v1/completions.
type completionRequest struct {
	sampling
	Prompt    *prompts        `json:"prompt"`
	MaxTokens *int            `json:"max_tokens"`
	Echo      bool            `json:"echo"`
	LogProbs  *int            `json:"logprobs"`
	BestOf    *int            `json:"best_of"`
	Suffix    json.RawMessage `json:"suffix"`
}

const (
	// defaultMaxTokens is the number of tokens of a completion if a request does not say; that of
	// OpenAI's API.
	defaultMaxTokens = 16
	// maxTop is the largest number of most likely tokens at a place.
	maxTop = 20
	// maxScores is the largest number of log-probabilities in an answer, which is held in memory.
	maxScores = 2 << 20
)

func (c *completionRequest) check() error {
	if err := c.sampling.check(); err != nil {
		return err
	}
	switch {
	case c.Prompt == nil:
		return invalid("prompt", "prompt is missing")
	case c.MaxTokens != nil && *c.MaxTokens < 0:
		return invalid("max_tokens", "max_tokens is %d; expected 0 or more", *c.MaxTokens)
	case c.BestOf != nil && *c.BestOf != c.n():
		return unsupported("best_of")
	case len(c.Suffix) > 0 && string(c.Suffix) != "null" && string(c.Suffix) != `""`:
		return unsupported("suffix")
	case c.Stream && c.Echo && c.LogProbs != nil:
		return invalid("stream", "echo with logprobs cannot be streamed")
	}
	if c.LogProbs != nil {
		return between("logprobs", *c.LogProbs, 0, maxTop)
	}
	return nil
}

// completions answers POST /v1/completions.
func (s *Server) completions(w http.ResponseWriter, r *http.Request) error {
	var c completionRequest
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
	given := len(c.Prompt.texts) + len(c.Prompt.ids)
	if err := s.checkCount(given, c.n()); err != nil {
		return err
	}
	release, err := s.turn(r)
	if err != nil {
		return err
	}
	encoded := c.Prompt.encode(m.Tokenizer)
	release()
	g := &generation{server: s, sampling: &c.sampling, name: name, format: completionFormat{request: &c, tokenizer: m.Tokenizer}}
	scores := 0
	for i, p := range encoded {
		if err := s.fits(given, i, len(p.ids), c.MaxTokens); err != nil {
			return err
		}
		most := min(defaultMaxTokens, s.engine.Ctx()-len(p.ids))
		if c.MaxTokens != nil {
			most = *c.MaxTokens
		}
		if scores += c.n() * (len(p.ids) + most); c.LogProbs != nil && scores > maxScores/(1+*c.LogProbs) {
			return invalid("logprobs", "logprobs of so many tokens are too much for one request; at most %d log-probabilities are possible", maxScores)
		}
		for range c.n() {
			g.add(m, p, &batch.Request{
				Model: m, Prompt: p.ids, MaxTokens: most, IgnoreEOS: c.IgnoreEOS,
				Score: c.LogProbs != nil, ScorePrompt: c.LogProbs != nil && c.Echo, Top: top(c.LogProbs),
			})
		}
	}
	return g.run(w, r)
}

// top returns the number of most likely tokens of a request.
func top(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

// prompt is one prompt of a request.
type prompt struct {
	ids  []int32
	text string // as it was given; for token ids as they are decoded
	// offsets are the characters of the text before each token.
	offsets []int
}

// encode returns the prompts as tokens. Texts get the special tokens that the tokenizer adds.
func (p *prompts) encode(t *tokenizer.Tokenizer) []prompt {
	var out []prompt
	for _, text := range p.texts {
		e := t.Encode(text, true)
		q := prompt{ids: e.IDs, text: text}
		at, counted, chars := 0, 0, 0
		for _, n := range e.Bytes {
			// Characters that are complete: a token may be a part of one.
			end := at
			for end < len(text) && end > counted && !utf8.RuneStart(text[end]) {
				end--
			}
			chars += utf8.RuneCountInString(text[counted:end])
			counted = end
			q.offsets = append(q.offsets, chars)
			at += int(n)
		}
		out = append(out, q)
	}
	for _, ids := range p.ids {
		q := prompt{ids: ids}
		stream := t.Stream(true)
		chars := 0
		for _, id := range ids {
			q.offsets = append(q.offsets, chars)
			piece := stream.Next(id)
			q.text += piece
			chars += utf8.RuneCountInString(piece)
		}
		q.text += stream.Flush()
		out = append(out, q)
	}
	return out
}

// fits checks that a prompt and the tokens that were asked for fit the context.
func (s *Server) fits(prompts, i, tokens int, most *int) error {
	which := "the prompt"
	if prompts > 1 {
		which = ordinal(i) + " prompt"
	}
	ctx := s.engine.Ctx()
	switch {
	case tokens == 0:
		return invalid("prompt", "%s has no tokens", which)
	case tokens > ctx || most == nil && tokens == ctx:
		return newError(400, "invalid_request_error", "prompt", "context_length_exceeded",
			"%s has %d tokens; the context of this server has %d", which, tokens, ctx)
	case most != nil && *most > ctx-tokens:
		return newError(400, "invalid_request_error", "max_tokens", "context_length_exceeded",
			"%s has %d tokens and max_tokens is %d, %d in all; the context of this server has %d", which, tokens, *most, tokens+*most, ctx)
	}
	return nil
}

// completionFormat makes the objects of the completions API.
type completionFormat struct {
	request   *completionRequest
	tokenizer *tokenizer.Tokenizer
}

type completionChoice struct {
	Text         string            `json:"text"`
	Index        int               `json:"index"`
	LogProbs     *completionScores `json:"logprobs"`
	FinishReason *string           `json:"finish_reason"`
}

// completionScores are the log-probabilities of the tokens of a completion.
type completionScores struct {
	Tokens        []string             `json:"tokens"`
	TokenLogProbs []*float64           `json:"token_logprobs"` // null for the first token of a prompt
	TopLogProbs   []map[string]float64 `json:"top_logprobs"`
	TextOffset    []int                `json:"text_offset"`
}

func (f completionFormat) object(stream bool) (id, object string) { return "cmpl", "text_completion" }

// before is the prompt: the answer continues its text.
func (f completionFormat) before(p prompt) []int32 { return p.ids }

// choice is the whole answer.
func (f completionFormat) choice(c *choice) any {
	out := completionChoice{Index: c.index, Text: c.answer.Text(), FinishReason: c.finish}
	before := 0
	if f.request.Echo {
		out.Text = c.prompt.text + out.Text
		before = utf8.RuneCountInString(c.prompt.text)
	}
	if f.request.LogProbs == nil {
		return out
	}
	scores := newCompletionScores()
	if f.request.Echo {
		for i, t := range c.result.Prompt {
			f.add(scores, t, c.prompt.offsets[i], i == 0)
		}
	}
	for _, t := range c.answer.Tokens() {
		f.add(scores, t.Token, before+t.Offset, false)
	}
	if end := c.end(); end != nil {
		f.add(scores, *end, before+c.answer.Characters(), false)
	}
	out.LogProbs = scores
	return out
}

// piece is a part of a streamed answer.
func (f completionFormat) piece(c *choice, p piece) any {
	out := completionChoice{Index: c.index, Text: p.text, FinishReason: p.finish}
	if p.first && f.request.Echo {
		out.Text = c.prompt.text + out.Text
	}
	if f.request.LogProbs != nil {
		out.LogProbs = newCompletionScores()
		before := 0
		if f.request.Echo {
			before = utf8.RuneCountInString(c.prompt.text)
		}
		for _, t := range p.tokens {
			f.add(out.LogProbs, t.Token, before+t.Offset, false)
		}
		if p.end != nil {
			f.add(out.LogProbs, *p.end, before+c.answer.Characters(), false)
		}
	}
	return out
}

func newCompletionScores() *completionScores {
	return &completionScores{Tokens: []string{}, TokenLogProbs: []*float64{}, TopLogProbs: []map[string]float64{}, TextOffset: []int{}}
}

// add adds a token; the first of a prompt has no probability.
func (f completionFormat) add(scores *completionScores, t batch.Token, offset int, first bool) {
	text := tokenText(f.tokenizer, t.ID)
	scores.Tokens = append(scores.Tokens, text)
	scores.TextOffset = append(scores.TextOffset, offset)
	if first {
		scores.TokenLogProbs = append(scores.TokenLogProbs, nil)
		scores.TopLogProbs = append(scores.TopLogProbs, nil)
		return
	}
	scores.TokenLogProbs = append(scores.TokenLogProbs, &t.LogProb)
	scores.TopLogProbs = append(scores.TopLogProbs, topByText(f.tokenizer, t, text))
}

// topByText returns the most likely tokens and the token itself by their texts. Of tokens that have
// the same text, the most likely one counts.
func topByText(k *tokenizer.Tokenizer, t batch.Token, text string) map[string]float64 {
	out := map[string]float64{text: t.LogProb}
	for _, c := range t.Top {
		name := tokenText(k, c.ID)
		if p, ok := out[name]; !ok || c.LogProb > p {
			out[name] = c.LogProb
		}
	}
	return out
}
