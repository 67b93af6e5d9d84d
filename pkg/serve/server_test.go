package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"afmq/pkg/adapter"
	"afmq/pkg/batch"
	"afmq/pkg/chat"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

var bg = context.Background()

var openTiny = sync.OnceValues(func() (*infer.Model, error) {
	return infer.Open(bg, "../../internal/demo/model", infer.OpenOptions{Threads: 2})
})

func tiny(t testing.TB) *infer.Model {
	t.Helper()
	m, err := openTiny()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// withAdapter returns the model with an adapter that changes what it generates.
func withAdapter(m *infer.Model) *infer.Model {
	a := &adapter.Adapter{Config: adapter.Config{Rank: 1, Alpha: 1}, Modules: map[string]adapter.Weights{}}
	for _, spec := range m.Config.Tensors() {
		if strings.HasSuffix(spec.Name, "down_proj.weight") {
			w := adapter.Weights{A: make([]float32, spec.Shape[1]), B: make([]float32, spec.Shape[0]), DType: safetensors.F32}
			for i := range w.A {
				w.A[i] = float32(i%7-3) / 2
			}
			for i := range w.B {
				w.B[i] = float32(i%5-2) / 2
			}
			a.Modules[spec.Module()] = w
		}
	}
	return m.WithAdapter(a)
}

const testTemplate = `{%- for m in messages %}{{ "[" + m.role + "] " + m.content + "\n" }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}`

func newServer(t testing.TB, opts Options) *Server {
	t.Helper()
	m := tiny(t)
	if opts.Template == nil {
		template, err := chat.Parse("test", testTemplate, nil)
		if err != nil {
			t.Fatal(err)
		}
		opts.Template = template
	}
	if opts.Name == "" {
		opts.Name = "tiny"
	}
	if opts.Engine.Threads == 0 {
		opts.Engine.Threads = 2
	}
	opts.Adapters = append(opts.Adapters, Adapter{"changed", withAdapter(m)})
	s, err := New(m, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(bg) })
	return s
}

// post sends a request and returns the status and the answer.
func post(t testing.TB, h http.Handler, path, body string, header ...string) (int, map[string]any) {
	t.Helper()
	w := send(h, "POST", path, body, header...)
	var out map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s: %v in %q", body, err, w.Body)
	}
	return w.Code, out
}

func send(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// ok is post for a request that must succeed.
func ok(t testing.TB, h http.Handler, path, body string) map[string]any {
	t.Helper()
	status, out := post(t, h, path, body)
	if status != 200 {
		t.Fatalf("%s: status %d, %v", body, status, out)
	}
	return out
}

// at follows keys and indices into an answer.
func at(t testing.TB, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				t.Fatalf("no object at %v in %v", p, v)
			}
			v = m[p]
		case int:
			l, ok := v.([]any)
			if !ok || p >= len(l) {
				t.Fatalf("no element %v in %v", p, v)
			}
			v = l[p]
		}
	}
	return v
}

// generated is what the model generates greedily.
func generated(t testing.TB, m *infer.Model, prompt string, n int) *infer.Generation {
	t.Helper()
	g, err := m.Generate(bg, m.Tokenizer.Encode(prompt, true).IDs, infer.GenerateOptions{MaxTokens: n, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Completions of a text, of token ids and of lists of both are those of Model.Generate.
func TestCompletions(t *testing.T) {
	s := newServer(t, Options{})
	m := tiny(t)
	a, b := "The old man looked", "It was"
	ids := func(text string) string {
		data, _ := json.Marshal(m.Tokenizer.Encode(text, true).IDs)
		return string(data)
	}
	for _, tt := range []struct {
		prompt  string
		prompts []string
	}{
		{`"` + a + `"`, []string{a}},
		{`["` + a + `", "` + b + `"]`, []string{a, b}},
		{ids(a), []string{a}},
		{`[` + ids(a) + `,` + ids(b) + `]`, []string{a, b}},
	} {
		out := ok(t, s, "/v1/completions", `{"model": "tiny", "temperature": 0, "max_tokens": 12, "prompt": `+tt.prompt+`}`)
		tokens := 0
		for i, p := range tt.prompts {
			want := generated(t, m, p, 12)
			if got := at(t, out, "choices", i, "text"); got != want.Text {
				t.Errorf("%s: %q, want %q", tt.prompt, got, want.Text)
			}
			if r := at(t, out, "choices", i, "finish_reason"); r != "length" {
				t.Errorf("finish_reason %v", r)
			}
			tokens += want.PromptTokens
		}
		if at(t, out, "usage", "prompt_tokens") != float64(tokens) || at(t, out, "usage", "completion_tokens") != float64(12*len(tt.prompts)) {
			t.Errorf("usage %v", at(t, out, "usage"))
		}
		if out["object"] != "text_completion" || out["model"] != "tiny" || !strings.HasPrefix(out["id"].(string), "cmpl-") {
			t.Errorf("%v", out)
		}
	}
	changed := generated(t, withAdapter(m), a, 12).Text
	if out := ok(t, s, "/v1/completions", `{"model": "changed", "temperature": 0, "max_tokens": 12, "prompt": "`+a+`"}`); at(t, out, "choices", 0, "text") != changed {
		t.Errorf("with the adapter %q, want %q", at(t, out, "choices", 0, "text"), changed)
	}
	if changed == generated(t, m, a, 12).Text {
		t.Fatal("the adapter changes nothing")
	}
}

// The scores of an echoed prompt are those of the model, one for each token and one more for the
// token that follows, as evaluation harnesses expect: they drop the last.
func TestEchoedScores(t *testing.T) {
	s := newServer(t, Options{})
	m := tiny(t)
	text := "The old man — “Señor” — looked at the sea"
	ids := m.Tokenizer.Encode(text, true).IDs
	r := m.NewRunner(nil)
	vocab := m.Config.VocabSize
	logits := make([]float32, len(ids)*vocab)
	r.Logits(logits, r.Forward([]infer.Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}}), len(ids))
	list, _ := json.Marshal(ids)
	for _, prompt := range []string{`"` + text + `"`, string(list)} {
		for n := range 2 {
			out := ok(t, s, "/v1/completions", fmt.Sprintf(`{"temperature": 0, "max_tokens": %d, "echo": true, "logprobs": 2, "prompt": %s}`, n, prompt))
			if got := at(t, out, "choices", 0, "text").(string); !strings.HasPrefix(got, text) {
				t.Errorf("the text is %q", got)
			}
			scores := at(t, out, "choices", 0, "logprobs").(map[string]any)
			tokens, values := scores["tokens"].([]any), scores["token_logprobs"].([]any)
			if len(tokens) != len(ids)+n || len(values) != len(tokens) || len(scores["top_logprobs"].([]any)) != len(tokens) || values[0] != nil {
				t.Fatalf("%d tokens for %d of the prompt", len(tokens), len(ids))
			}
			joined := ""
			for i := range ids {
				offset := int(at(t, scores, "text_offset", i).(float64))
				if got := []rune(text)[:offset]; i > 0 && strings.TrimSpace(string(got)) != strings.TrimSpace(m.Tokenizer.Decode(ids[:i], true)) && !strings.Contains(m.Tokenizer.Decode(ids[:i], true), "\uFFFD") {
					t.Errorf("token %d begins after %q", i, string(got))
				}
				joined += tokens[i].(string)
				if i == 0 {
					continue
				}
				want, top := infer.LogProbs(logits[(i-1)*vocab:i*vocab], ids[i], 2)
				if values[i] != want {
					t.Errorf("token %d: %v, want %v", i, values[i], want)
				}
				best := at(t, scores, "top_logprobs", i).(map[string]any)
				most := -1e9
				for _, p := range best {
					most = max(most, p.(float64))
				}
				if most != top[0].LogProb || best[tokens[i].(string)] != want || (ids[i] == top[0].ID) != (most == want) {
					t.Errorf("token %d: %v; the most likely has %v", i, best, top[0].LogProb)
				}
			}
		}
	}
}

// A scored prompt has one more entry even if the model ends the text at once.
func TestScoresOfTheEnd(t *testing.T) {
	m := *tiny(t)
	config := *m.Config
	m.Config = &config
	prompt := m.Tokenizer.Encode("The old man", true).IDs
	g, err := m.Generate(bg, prompt, infer.GenerateOptions{MaxTokens: 1})
	if err != nil {
		t.Fatal(err)
	}
	config.EOS = g.Tokens
	s, err := New(&m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(bg)
	out := ok(t, s, "/v1/completions", `{"temperature": 0, "max_tokens": 1, "echo": true, "logprobs": 1, "prompt": "The old man"}`)
	if n := len(at(t, out, "choices", 0, "logprobs", "token_logprobs").([]any)); n != len(prompt)+1 {
		t.Errorf("%d scores of %d tokens", n, len(prompt))
	}
	if at(t, out, "choices", 0, "text") != "The old man" || at(t, out, "choices", 0, "finish_reason") != "stop" || at(t, out, "usage", "completion_tokens") != 1.0 {
		t.Errorf("%v", out)
	}
	// So has an answer, streamed or not.
	s.opts.Template, err = chat.Parse("test", "{{ messages[0].content }}", nil)
	if err != nil {
		t.Fatal(err)
	}
	messages := `{"temperature": 0, "logprobs": true, "messages": [{"role": "user", "content": "The old man"}]`
	whole := at(t, ok(t, s, "/v1/chat/completions", messages+"}"), "choices", 0, "logprobs", "content").([]any)
	text := `{"temperature": 0, "logprobs": 0, "max_tokens": 5, "prompt": "The old man"`
	listed := at(t, ok(t, s, "/v1/completions", text+"}"), "choices", 0, "logprobs", "tokens").([]any)
	if len(whole) != 1 || len(listed) != 1 {
		t.Errorf("%v, %v", whole, listed)
	}
	events := eventsOf(t, send(s, "POST", "/v1/chat/completions", messages+`, "stream": true}`).Body.String())
	if last := at(t, events[len(events)-1], "choices", 0, "logprobs", "content").([]any); !reflect.DeepEqual(last, whole) {
		t.Errorf("streamed %v, whole %v", last, whole)
	}
	events = eventsOf(t, send(s, "POST", "/v1/completions", text+`, "stream": true}`).Body.String())
	if last := at(t, events[len(events)-1], "choices", 0, "logprobs", "tokens").([]any); !reflect.DeepEqual(last, listed) {
		t.Errorf("streamed %v, whole %v", last, listed)
	}
}

// events returns the objects of a stream, which must end as it should.
func eventsOf(t testing.TB, body string) []map[string]any {
	t.Helper()
	var out []map[string]any
	lines := strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n")
	if lines[len(lines)-1] != "data: [DONE]" {
		t.Fatalf("the stream ends with %q", lines[len(lines)-1])
	}
	for _, line := range lines[:len(lines)-1] {
		var v map[string]any
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &v); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		out = append(out, v)
	}
	return out
}

// A streamed answer is the same as the whole one: text, reasons, scores and usage.
func TestStream(t *testing.T) {
	s := newServer(t, Options{})
	for _, body := range []string{
		`"prompt": ["The old man looked", "It was"], "max_tokens": 15`,
		`"prompt": "The old man looked", "max_tokens": 15, "logprobs": 1`,
		`"prompt": "The old man looked", "max_tokens": 40, "stop": ["the s", "the h", " he"], "logprobs": 0`,
		`"prompt": "The old man looked", "max_tokens": 15, "echo": true`,
		`"prompt": "The old man looked", "max_tokens": 15, "temperature": 1, "n": 3, "seed": 5`,
		`"prompt": "The old man looked", "max_tokens": 0`,
	} {
		if !strings.Contains(body, "temperature") {
			body += `, "temperature": 0`
		}
		whole := ok(t, s, "/v1/completions", "{"+body+"}")
		w := send(s, "POST", "/v1/completions", "{"+body+`, "stream": true, "stream_options": {"include_usage": true}}`)
		if w.Header().Get("Content-Type") != "text/event-stream" {
			t.Errorf("%s: %v", body, w.Header())
		}
		events := eventsOf(t, w.Body.String())
		n := len(whole["choices"].([]any))
		text, reason, tokens := make([]string, n), make([]any, n), make([][]any, n)
		for _, e := range events[:len(events)-1] {
			i := int(at(t, e, "choices", 0, "index").(float64))
			text[i] += at(t, e, "choices", 0, "text").(string)
			if r := at(t, e, "choices", 0, "finish_reason"); r != nil {
				reason[i] = r
			}
			if l := at(t, e, "choices", 0, "logprobs"); l != nil {
				tokens[i] = append(tokens[i], at(t, l, "token_logprobs").([]any)...)
			}
		}
		for i := range n {
			if text[i] != at(t, whole, "choices", i, "text") || reason[i] != at(t, whole, "choices", i, "finish_reason") {
				t.Errorf("%s: streamed %q (%v), whole %v", body, text[i], reason[i], at(t, whole, "choices", i))
			}
			if l := at(t, whole, "choices", i, "logprobs"); l != nil && !slices.Equal(tokens[i], at(t, l, "token_logprobs").([]any)) {
				t.Errorf("%s: streamed scores %v, whole %v", body, tokens[i], l)
			}
		}
		u := events[len(events)-1]
		if len(u["choices"].([]any)) != 0 || at(t, u, "usage", "total_tokens") != at(t, whole, "usage", "total_tokens") {
			t.Errorf("%s: usage %v, whole %v", body, u, whole["usage"])
		}
	}
}

// A stop ends the text before it, wherever it lies between tokens; one that is a special token ends
// it too.
func TestStops(t *testing.T) {
	s := newServer(t, Options{})
	full := generated(t, tiny(t), "The old man looked", 30).Text
	for from := 1; from+5 < len(full) && from < 30; from++ {
		stop := full[from : from+5]
		want := full[:strings.Index(full, stop)]
		body, _ := json.Marshal(map[string]any{"prompt": "The old man looked", "max_tokens": 30, "temperature": 0, "stop": []string{"zzz", stop}, "logprobs": 0})
		out := ok(t, s, "/v1/completions", string(body))
		if n := len(at(t, out, "choices", 0, "logprobs", "tokens").([]any)); float64(n) != at(t, out, "usage", "completion_tokens") {
			t.Errorf("stop %q: %d tokens have scores, %v were generated", stop, n, at(t, out, "usage"))
		}
		if at(t, out, "choices", 0, "text") != want || at(t, out, "choices", 0, "finish_reason") != "stop" {
			t.Errorf("stop %q: %v, want %q", stop, at(t, out, "choices", 0), want)
		}
	}
}

// The same request has the same answer whatever else runs, also with a temperature and no seed.
func TestSameAnswer(t *testing.T) {
	s := newServer(t, Options{Engine: batch.Options{Parallel: 5}})
	bodies := []string{
		`{"prompt": "The old man", "max_tokens": 20}`,
		`{"prompt": "The old man", "max_tokens": 20, "seed": 1, "top_p": 0.9, "top_k": 40}`,
		`{"prompt": "The old man", "max_tokens": 20, "seed": 1, "model": "changed"}`,
		`{"prompt": "The old man looked", "max_tokens": 1, "echo": true, "logprobs": 3}`,
		`{"prompt": "It was", "n": 4, "max_tokens": 10, "logprobs": 1}`,
	}
	want := make([]string, len(bodies))
	answer := func(body string) string {
		out := ok(t, s, "/v1/completions", body)
		data, _ := json.Marshal(out["choices"])
		return string(data)
	}
	for i, b := range bodies {
		want[i] = answer(b)
	}
	if want[0] == want[1] {
		t.Error("the seed has no effect")
	}
	var wg sync.WaitGroup
	for k := range 40 {
		wg.Go(func() {
			i := k % len(bodies)
			if got := answer(bodies[i]); got != want[i] {
				t.Errorf("%s: %s, alone %s", bodies[i], got, want[i])
			}
		})
	}
	wg.Wait()
}

func TestChat(t *testing.T) {
	s := newServer(t, Options{})
	rendered := "[system] Be brief.\n[user] The sea?\n[assistant]"
	want := generated(t, tiny(t), rendered, 9).Text
	for _, content := range []string{`"The sea?"`, `[{"type": "text", "text": "The sea?"}]`} {
		messages := `"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ` + content + `}], "temperature": 0, "max_tokens": 9`
		out := ok(t, s, "/v1/chat/completions", "{"+messages+`, "logprobs": true, "top_logprobs": 2}`)
		if at(t, out, "choices", 0, "message", "content") != want || at(t, out, "choices", 0, "message", "role") != "assistant" || out["object"] != "chat.completion" {
			t.Errorf("%v, want %q", out, want)
		}
		scores := at(t, out, "choices", 0, "logprobs", "content").([]any)
		var joined []byte
		for _, c := range scores {
			for _, b := range at(t, c, "bytes").([]any) {
				joined = append(joined, byte(b.(float64)))
			}
			if len(at(t, c, "top_logprobs").([]any)) != 2 || at(t, c, "top_logprobs", 0, "logprob") != at(t, c, "logprob") {
				t.Errorf("%v", c)
			}
		}
		if string(joined) != want || len(scores) != 9 {
			t.Errorf("%d tokens with the bytes %q", len(scores), joined)
		}
		w := send(s, "POST", "/v1/chat/completions", "{"+messages+`, "stream": true}`)
		text := ""
		events := eventsOf(t, w.Body.String())
		for _, e := range events {
			text += at(t, e, "choices", 0, "delta", "content").(string)
		}
		if text != want || at(t, events[0], "choices", 0, "delta", "role") != "assistant" || events[0]["object"] != "chat.completion.chunk" ||
			at(t, events[len(events)-1], "choices", 0, "finish_reason") != "length" {
			t.Errorf("%s", w.Body)
		}
	}
	out := ok(t, s, "/tokenize", `{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "The sea?"}]}`)
	if n := len(tiny(t).Tokenizer.Encode(rendered, false).IDs); out["count"] != float64(n) {
		t.Errorf("%v tokens, want %d", out["count"], n)
	}
	s.opts.Template = nil
	if status, out := post(t, s, "/v1/chat/completions", `{"messages": [{"role": "user", "content": "x"}]}`); status != 400 || !strings.Contains(fmt.Sprint(out), "no chat template") {
		t.Errorf("%d %v", status, out)
	}
}

// What requests ask wrongly is refused with OpenAI's error object, the status and the parameter.
func TestRefusals(t *testing.T) {
	s := newServer(t, Options{Engine: batch.Options{Ctx: 64}})
	long := strings.Repeat("word ", 100)
	many := `"` + strings.Repeat(`x","`, 9999) + `x"`
	for _, tt := range []struct {
		path, body string
		status     int
		param      any
		message    string
	}{
		{"/v1/completions", ``, 400, nil, "empty"},
		{"/v1/completions", `{`, 400, nil, "not valid JSON"},
		{"/v1/completions", `{"prompt": "x"} {}`, 400, nil, "after"},
		{"/v1/completions", `[]`, 400, nil, "expected a JSON object"},
		{"/v1/completions", `{}`, 400, "prompt", "missing"},
		{"/v1/completions", `{"prompt": null}`, 400, "prompt", "missing"},
		{"/v1/completions", `{"prompt": []}`, 400, "prompt", "empty list"},
		{"/v1/completions", `{"prompt": [null]}`, 400, "prompt", "not a string"},
		{"/v1/completions", `{"prompt": [[1, null]]}`, 400, "prompt", "not a string"},
		{"/v1/completions", `{"prompt": [[]]}`, 400, "prompt", "no tokens"},
		{"/v1/completions", `{"prompt": [1, "x"]}`, 400, "prompt", "not a string"},
		{"/v1/completions", `{"prompt": [1.5]}`, 400, "prompt", "not a string"},
		{"/v1/completions", `{"prompt": [-1]}`, 400, nil, "token id -1"},
		{"/v1/completions", `{"prompt": [99999]}`, 400, nil, "token id 99999"},
		{"/v1/completions", `{"prompt": [99999999999]}`, 400, "prompt", "not a string"},
		{"/v1/completions", `{"prompt": "x", "model": "no"}`, 404, "model", `"tiny" "changed"`},
		{"/v1/completions", `{"prompt": "x", "modle": "tiny"}`, 400, "modle", "unknown parameter"},
		{"/v1/completions", `{"prompt": "x", "max_tokens": -1}`, 400, "max_tokens", "-1"},
		{"/v1/completions", `{"prompt": "x", "max_tokens": 1.5}`, 400, "max_tokens", "integer"},
		{"/v1/completions", `{"prompt": "x", "max_tokens": "many"}`, 400, "max_tokens", "a string; expected an integer"},
		{"/v1/completions", `{"prompt": "x", "max_tokens": 1000000000000}`, 400, "max_tokens", "64"},
		{"/v1/completions", `{"prompt": "` + long + `"}`, 400, "prompt", "has 64"},
		{"/v1/completions", `{"prompt": ["x", "` + long + `"]}`, 400, "prompt", "the 2nd prompt"},
		{"/v1/completions", `{"prompt": "x", "temperature": "hot"}`, 400, "temperature", "number"},
		{"/v1/completions", `{"prompt": "x", "temperature": 3}`, 400, "temperature", "0 to 2"},
		{"/v1/completions", `{"prompt": "x", "temperature": -0.1}`, 400, "temperature", "0 to 2"},
		{"/v1/completions", `{"prompt": "x", "top_p": 0}`, 400, "top_p", "above 0"},
		{"/v1/completions", `{"prompt": "x", "top_k": -2}`, 400, "top_k", "-2"},
		{"/v1/completions", `{"prompt": "x", "n": 0}`, 400, "n", "1 to 128"},
		{"/v1/completions", `{"prompt": "x", "n": 1000000}`, 400, "n", "1 to 128"},
		{"/v1/completions", `{"prompt": "x", "logprobs": 21}`, 400, "logprobs", "0 to 20"},
		{"/v1/completions", `{"prompt": "x", "logprobs": -1}`, 400, "logprobs", "0 to 20"},
		{"/v1/completions", `{"prompt": "x", "best_of": 3}`, 400, "best_of", "not supported"},
		{"/v1/completions", `{"prompt": "x", "suffix": "y"}`, 400, "suffix", "not supported"},
		{"/v1/completions", `{"prompt": "x", "logit_bias": {"5": 1}}`, 400, "logit_bias", "not supported"},
		{"/v1/completions", `{"prompt": "x", "presence_penalty": 0.5}`, 400, "presence_penalty", "not supported"},
		{"/v1/completions", `{"prompt": "x", "stop": [` + many + `]}`, 400, "stop", "10000 strings"},
		{"/v1/completions", `{"prompt": "x", "stop": ""}`, 400, "stop", "empty"},
		{"/v1/completions", `{"prompt": "x", "stop": [1]}`, 400, "stop", "not a string"},
		{"/v1/completions", `{"prompt": "x", "stop": "` + strings.Repeat("s", 2000) + `"}`, 400, "stop", "2000 bytes"},
		{"/v1/completions", `{"prompt": "x", "stream_options": {"include_usage": true}}`, 400, "stream_options", "needs stream"},
		{"/v1/completions", `{"prompt": ` + strings.Repeat("[", 100000) + `}`, 400, nil, "JSON"},
		{"/v1/completions", `{"prompt": "` + strings.Repeat("x", 5<<20) + `"}`, 413, nil, "4194304 bytes"},
		{"/v1/chat/completions", `{"messages": []}`, 400, "messages", "empty"},
		{"/v1/chat/completions", `{"messages": [{"content": "x"}]}`, 400, "messages", "role"},
		{"/v1/chat/completions", `{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]}`, 400, "messages", "image_url"},
		{"/v1/chat/completions", `{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"}}`, 400, "response_format", "json_object"},
		{"/v1/chat/completions", `{"messages": [{"role": "user", "content": "x"}], "tool_choice": "required"}`, 400, "tool_choice", "required"},
		{"/v1/chat/completions", `{"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}`, 400, "top_logprobs", "needs logprobs"},
		{"/v1/chat/completions", `{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}`, 400, "max_completion_tokens", "1 or more"},
		{"/v1/chat/completions", `{"messages": "x"}`, 400, "messages", "a string; expected a list"},
		{"/v1/completions", `{"prompt": "x", "prompt": "y"}`, 400, "prompt", "twice"},
		{"/v1/completions", `{"prompt": "x", "Temperature": 0}`, 400, "Temperature", "unknown parameter"},
		{"/v1/completions", `{"prompt": [` + strings.Repeat(`"x",`, 99) + `"x"], "n": 3}`, 400, "prompt", "takes 256 answers"},
		{"/tokenize", `{"prompt": "x", "tools": []}`, 400, nil, "need messages"},
		{"/tokenize", `{"messages": [{"role": "user", "content": "x"}], "add_special_tokens": true}`, 400, "add_special_tokens", "no meaning"},
		{"/tokenize", `{}`, 400, "prompt", "missing"},
		{"/detokenize", `{"tokens": [99999]}`, 400, "tokens", "99999"},
		{"/detokenize", `{}`, 400, "tokens", "missing"},
		{"/v1/nothing", `{}`, 404, nil, "/v1/nothing"},
	} {
		status, out := post(t, s, tt.path, tt.body)
		show := tt.body[:min(len(tt.body), 80)]
		if status != tt.status || at(t, out, "error", "param") != tt.param || !strings.Contains(at(t, out, "error", "message").(string), tt.message) {
			t.Errorf("%s: status %d, %v; want %d, %v, %q", show, status, out, tt.status, tt.param, tt.message)
		}
		if kind := at(t, out, "error", "type"); kind != "invalid_request_error" {
			t.Errorf("%s: type %v", show, kind)
		}
	}
	if s := s.engine.Stats(); s.Running+s.Waiting != 0 || s.Finished != 0 {
		t.Errorf("refused requests ran: %+v", s)
	}
}

func TestModelsAndTokens(t *testing.T) {
	s := newServer(t, Options{Engine: batch.Options{Ctx: 100}})
	get := func(path string) map[string]any {
		t.Helper()
		w := send(s, "GET", path, "")
		var out map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		return out
	}
	list := get("/v1/models")
	if at(t, list, "data", 0, "id") != "tiny" || at(t, list, "data", 1, "id") != "changed" || at(t, list, "data", 1, "parent") != "tiny" || at(t, list, "data", 0, "max_model_len") != 100.0 {
		t.Errorf("%v", list)
	}
	if get("/v1/models/changed")["id"] != "changed" || get("/health")["status"] != "ok" {
		t.Error("no model or health")
	}
	text := "The old man — and the sea"
	body, _ := json.Marshal(map[string]any{"prompt": text, "return_token_strs": true})
	out := ok(t, s, "/tokenize", string(body))
	ids, _ := json.Marshal(out["tokens"])
	if len(out["token_strs"].([]any)) != len(out["tokens"].([]any)) {
		t.Errorf("%v", out)
	}
	if back := ok(t, s, "/detokenize", `{"tokens": `+string(ids)+`}`); strings.TrimPrefix(back["prompt"].(string), "<s>") != text && back["prompt"] != text {
		t.Errorf("%v", back)
	}
	info := get("/tokenizer_info")
	eos, _ := tiny(t).Tokenizer.Token(tiny(t).Config.EOS[0])
	if info["eos_token"] != eos || info["chat_template"] != testTemplate {
		t.Errorf("%v", info)
	}
	ok(t, s, "/v1/completions", `{"prompt": "x", "max_tokens": 3, "model": "changed"}`)
	w := send(s, "GET", "/metrics", "")
	for _, want := range []string{
		`afmq_requests_total{model="changed",path="/v1/completions",status="200"} 1`, `afmq_tokens_total{kind="generated"} 3`, `afmq_sequences{state="running"} 0`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in\n%s", want, w.Body)
		}
	}
	if w := send(s, "GET", "/v1/completions", ""); w.Code != 405 || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d %v", w.Code, w.Header())
	}
	if w := send(s, "POST", "/v1/completions", `{"prompt": "x"}`, "Content-Type", "text/plain"); w.Code != 415 {
		t.Errorf("text/plain: %d", w.Code)
	}
}

// A server with keys answers nobody without one, but for its health; one with hosts answers for no
// other.
func TestKeysAndHosts(t *testing.T) {
	s := newServer(t, Options{Keys: []string{"first", "second"}, Hosts: []string{"localhost", "127.0.0.1"}})
	for _, tt := range []struct {
		path, host, authorization string
		status                    int
	}{
		{"/v1/models", "localhost:8080", "", 401},
		{"/v1/models", "localhost:8080", "Bearer third", 401},
		{"/v1/models", "localhost:8080", "Bearer ", 401},
		{"/v1/models", "localhost:8080", "Basic first", 401},
		{"/v1/models", "localhost:8080", "Bearer first", 200},
		{"/v1/models", "127.0.0.1", "bearer second", 200},
		{"/v1/models", "evil.example", "Bearer first", 403},
		{"/metrics", "localhost", "", 401},
		{"/health", "localhost", "", 200},
		{"/health", "evil.example", "", 403},
	} {
		r := httptest.NewRequest("GET", tt.path, nil)
		r.Host = tt.host
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != tt.status {
			t.Errorf("%s for %s with %q: %d, want %d", tt.path, tt.host, tt.authorization, w.Code, tt.status)
		}
	}
}

// Requests beyond the queue get 429 and Retry-After, ones that take too long 504.
func TestBusyAndTimeout(t *testing.T) {
	s := newServer(t, Options{Engine: batch.Options{Parallel: 1, Queue: 1}, Timeout: 50 * time.Millisecond})
	long := `{"prompt": "x", "max_tokens": 200, "ignore_eos": true}`
	var wg sync.WaitGroup
	codes := make([]int, 40)
	for i := range codes {
		wg.Go(func() {
			w := send(s, "POST", "/v1/completions", long)
			codes[i] = w.Code
			if w.Code == 429 && w.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
	wg.Wait()
	if !slices.Contains(codes, 429) {
		t.Errorf("%v", codes)
	}
	for _, c := range codes {
		if c != 200 && c != 429 && c != 504 {
			t.Errorf("status %d", c)
		}
	}
	s = newServer(t, Options{Timeout: 50 * time.Millisecond})
	w := send(s, "POST", "/v1/completions", `{"prompt": "x", "max_tokens": 1000, "n": 100, "ignore_eos": true}`)
	if w.Code != 504 {
		t.Errorf("a long request: %d %s", w.Code, w.Body)
	}
	ok(t, s, "/v1/completions", `{"prompt": "x", "max_tokens": 1}`)
}

// An internal error is an answer with status 500, and a panic one without its text.
func TestInternalError(t *testing.T) {
	s := newServer(t, Options{})
	h := s.handle("/panic", "", true, func(http.ResponseWriter, *http.Request) error { panic("secret") })
	w := send(h, "POST", "/panic", "")
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), "internal_error") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
