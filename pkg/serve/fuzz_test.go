package serve

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"afmq/pkg/batch"
)

// Whatever a client sends gets an answer: a JSON object, or a stream that ends, with a status of
// success or of its own mistake.
func FuzzRequests(f *testing.F) {
	for _, seed := range []string{
		`{"prompt": "The old man", "max_tokens": 3, "temperature": 0}`,
		`{"prompt": ["a", "b"], "n": 2, "logprobs": 2, "echo": true, "stop": ["x"], "seed": -5}`,
		`{"prompt": [[1, 2], [3]], "max_tokens": 0, "stream": true, "stream_options": {"include_usage": true}}`,
		`{"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "tools": [{"type": "function"}], "max_tokens": 2}`,
		`{"messages": [{"role": "assistant", "content": null, "tool_calls": [{}]}], "continue_final_message": true}`,
		`{"prompt": "x", "add_special_tokens": false, "return_token_strs": true}`,
		`{"tokens": [1, 2, 3]}`,
		`{"prompt": 1e999}`, `[`, ``, `null`, `{"prompt": {"a": [[[[]]]]}}`,
	} {
		f.Add(uint8(0), seed)
		f.Add(uint8(1), seed)
		f.Add(uint8(2), seed)
		f.Add(uint8(3), seed)
	}
	s := newServer(f, Options{Engine: batch.Options{Ctx: 24, Threads: 1}, Timeout: time.Second, MaxBody: 1 << 16})
	paths := []string{"/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"}
	f.Fuzz(func(t *testing.T, path uint8, body string) {
		r := httptest.NewRequest("POST", paths[int(path)%len(paths)], strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		switch {
		case w.Code >= 500 && w.Code != 504:
			t.Errorf("status %d: %s", w.Code, w.Body)
		case w.Header().Get("Content-Type") == "text/event-stream":
			if !strings.HasSuffix(w.Body.String(), "data: [DONE]\n\n") && !strings.Contains(w.Body.String(), `data: {"error":`) {
				t.Errorf("the stream ends with %q", w.Body)
			}
		default:
			var out map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || (w.Code != 200) != (out["error"] != nil) {
				t.Errorf("status %d: %v: %q", w.Code, err, w.Body)
			}
		}
	})
}
