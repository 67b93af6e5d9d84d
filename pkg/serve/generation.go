package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"afmq/pkg/batch"
	"afmq/pkg/infer"
)

// format makes the objects of an API.
type format interface {
	// object returns the prefix of ids and the value of "object".
	object(stream bool) (id, object string)
	choice(c *choice) any         // the whole answer
	piece(c *choice, p piece) any // a part of a streamed answer
	before(p prompt) []int32      // the tokens that the text of the answer continues
}

// generation is the answers to one request.
type generation struct {
	server   *Server
	sampling *sampling
	format   format
	name     string // of the model
	choices  []*choice
	requests []*batch.Request
	out      outbox // of a stream
}

// choice is one answer.
type choice struct {
	index  int
	prompt prompt
	answer *batch.Answer
	result *batch.Result
	finish *string // why it ended
	sent   int     // tokens that a stream has sent
}

// end returns the token that ended the answer and is no part of its text, or nil.
func (c *choice) end() *batch.Token {
	if _, ending := c.answer.Stopped(); ending != nil {
		return ending
	}
	return c.result.End
}

// add adds an answer to a prompt. The request's sampler and Emit are set here.
func (g *generation) add(m *infer.Model, p prompt, r *batch.Request) {
	c := &choice{index: len(g.choices), prompt: p, answer: batch.NewAnswer(m.Tokenizer, g.format.before(p), g.sampling.Stop)}
	r.Sampler = g.sampling.sampler(c.index % g.sampling.n())
	r.Emit = func(t batch.Token) bool {
		text, stop := c.answer.Add(t)
		if g.sampling.Stream {
			g.out.put(c, c.piece(text, false))
		}
		return stop
	}
	g.choices = append(g.choices, c)
	g.requests = append(g.requests, r)
}

// piece is the part of an answer that a token has completed.
type piece struct {
	text   string
	tokens []batch.Placed
	end    *batch.Token // the token that ended the answer and is no part of its text; nil for none
	finish *string
	first  bool
}

// piece returns a text with the tokens that began in the text so far, or all that are left.
func (c *choice) piece(text string, last bool) piece {
	p := piece{text: text}
	for _, t := range c.answer.Tokens()[c.sent:] {
		if !last && t.Offset >= c.answer.Characters() {
			break
		}
		p.tokens = append(p.tokens, t)
	}
	c.sent += len(p.tokens)
	return p
}

// run runs the requests and writes the answer.
func (g *generation) run(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), g.server.opts.Timeout)
	defer cancel()
	if g.sampling.Stream {
		return g.stream(ctx, w, r)
	}
	results, err := g.server.engine.Do(ctx, g.requests...)
	if err != nil {
		return err
	}
	var choices []any
	for i, c := range g.choices {
		c.close(results[i])
		choices = append(choices, g.format.choice(c))
	}
	g.observe()
	id, object := g.head(false)
	writeJSON(w, http.StatusOK, reply{id, object, time.Now().Unix(), g.name, g.server.fingerprint, choices, g.usage()})
	return nil
}

// close ends an answer with its result.
func (c *choice) close(r *batch.Result) string {
	c.result = r
	text := c.answer.End()
	finish := "length"
	if stopped, _ := c.answer.Stopped(); stopped || r.Reason == batch.EOS || r.Reason == batch.Stopped {
		finish = "stop"
	}
	c.finish = &finish
	return text
}

// reply is an answer, or a part of a streamed one.
type reply struct {
	ID          string `json:"id"`
	Object      string `json:"object"`
	Created     int64  `json:"created"` // seconds since 1970
	Model       string `json:"model"`
	Fingerprint string `json:"system_fingerprint"`
	Choices     []any  `json:"choices"`
	Usage       *usage `json:"usage,omitempty"`
}

// usage counts the tokens of a request.
type usage struct {
	PromptTokens     int           `json:"prompt_tokens"`
	CompletionTokens int           `json:"completion_tokens"`
	TotalTokens      int           `json:"total_tokens"`
	Details          promptDetails `json:"prompt_tokens_details"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

// usage counts each prompt once, whatever the number of its answers.
func (g *generation) usage() *usage {
	u := &usage{}
	for i, c := range g.choices {
		if i%g.sampling.n() == 0 {
			u.PromptTokens += len(c.prompt.ids)
			u.Details.CachedTokens += c.result.Cached
		}
		u.CompletionTokens += len(c.result.Tokens)
		if c.result.End != nil {
			u.CompletionTokens++
		}
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	return u
}

func (g *generation) head(stream bool) (id, object string) {
	prefix, object := g.format.object(stream)
	return fmt.Sprintf("%s-%s", prefix, randomID()), object
}

// outbox has the pieces of a stream that are not written yet. There are at most as many as there
// are tokens, so a slow reader holds up nobody.
type outbox struct {
	mu     sync.Mutex
	pieces []placed
	signal chan struct{}
}

type placed struct {
	c *choice
	p piece
}

func (o *outbox) put(c *choice, p piece) {
	if p.text == "" && len(p.tokens) == 0 {
		return
	}
	o.mu.Lock()
	o.pieces = append(o.pieces, placed{c, p})
	o.mu.Unlock()
	select {
	case o.signal <- struct{}{}:
	default:
	}
}

func (o *outbox) take() []placed {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pieces
	o.pieces = nil
	return p
}

// stream writes the answers as server-sent events, each part as soon as it is there.
func (g *generation) stream(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithCancel(ctx)
	g.out.signal = make(chan struct{}, 1)
	var results []*batch.Result
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		results, err = g.server.engine.Do(ctx, g.requests...)
	}()
	defer func() { cancel(); <-done }()
	e := &events{w: w, control: http.NewResponseController(w), g: g, started: make(map[*choice]bool)}
	e.id, e.object = g.head(true)
	e.created = time.Now().Unix()
	for running := true; running; {
		select {
		case <-g.out.signal:
		case <-done:
			running = false
		}
		for _, p := range g.out.take() {
			if e.err == nil {
				e.piece(p.c, p.p)
			}
		}
		if e.err != nil {
			return nil // the client is gone, or too slow
		}
	}
	if err != nil {
		if !e.begun {
			return err
		}
		e.send(map[string]any{"error": asAPIError(err)})
		return nil
	}
	for i, c := range g.choices {
		p := c.close(results[i])
		last := c.piece(p, true)
		last.end, last.finish = c.end(), c.finish
		e.piece(c, last)
	}
	if g.sampling.StreamOptions != nil && g.sampling.StreamOptions.IncludeUsage {
		e.send(reply{e.id, e.object, e.created, g.name, g.server.fingerprint, []any{}, g.usage()})
	}
	e.write("data: [DONE]\n\n")
	g.observe()
	return nil
}

// events writes server-sent events.
type events struct {
	w          http.ResponseWriter
	control    *http.ResponseController
	g          *generation
	id, object string
	created    int64
	begun      bool
	started    map[*choice]bool
	err        error
}

// piece sends a part of an answer.
func (e *events) piece(c *choice, p piece) {
	p.first = !e.started[c]
	e.started[c] = true
	e.send(reply{e.id, e.object, e.created, e.g.name, e.g.server.fingerprint, []any{e.g.format.piece(c, p)}, nil})
}

func (e *events) send(object any) {
	data, err := json.Marshal(object)
	if err != nil {
		e.err = err
		return
	}
	e.write("data: " + string(data) + "\n\n")
}

// writeTime is how long a client may take to read a part of an answer.
const writeTime = 30 * time.Second

func (e *events) write(text string) {
	if e.err != nil {
		return
	}
	if !e.begun {
		e.begun = true
		h := e.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
		e.w.WriteHeader(http.StatusOK)
	}
	_ = e.control.SetWriteDeadline(time.Now().Add(e.g.server.writeTime)) // not every connection has deadlines
	if _, e.err = e.w.Write([]byte(text)); e.err == nil {
		e.err = e.control.Flush()
	}
}
