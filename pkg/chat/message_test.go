package chat

import (
	"encoding/json"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// A message of a request reaches the template with its keys in their order, and is encoded again
// as it was.
func TestMessage(t *testing.T) {
	for in, want := range map[string]string{
		`{"role":"user","content":"a<b"}`:                                                 `{"role": "user", "content": "a<b"}`,
		`{"content":"a","weight":1.0,"role":"user"}`:                                      `{"content": "a", "weight": 1.0, "role": "user"}`,
		`{"role":"assistant","content":null,"tool_calls":[{"id":"1","x":{"b":1,"a":2}}]}`: `{"role": "assistant", "tool_calls": [{"id": "1", "x": {"b": 1, "a": 2}}]}`,
		`{"role":"assistant","content":"","refusal":null,"name":""}`:                      `{"role": "assistant", "content": "", "name": ""}`,
		`{"role":"tool","tool_call_id":"1","content":"x"}`:                                `{"role": "tool", "tool_call_id": "1", "content": "x"}`,
		`{"role":"user","content":[{"type":"text","text":"a"}]}`:                          `{"role": "user", "content": "a"}`,
		`{"role":"assistant","reasoning":"r","content":"x"}`:                              `{"thinking": "r", "role": "assistant", "reasoning": "r", "content": "x", "reasoning_content": "r"}`,
		`{"role":"user","content":"a","n":12345678901234567890,"e":1e2,"role":"system"}`:  `{"role": "system", "content": "a", "n": 12345678901234567890, "e": 100.0}`,
	} {
		var m Message
		if err := json.Unmarshal([]byte(in), &m); err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		if got := toJSON(t, m); got != want {
			t.Errorf("%s: template gets %s, want %s", in, got, want)
		}
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var again Message
		if err := json.Unmarshal(out, &again); err != nil || toJSON(t, again) != want {
			t.Errorf("%s: encoded as %s, %v", in, out, err)
		}
	}
}

func toJSON(t *testing.T, m Message) string {
	t.Helper()
	template, err := Parse("t", "{{ messages[0]|tojson }}", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := template.Render([]Message{m}, RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMessageMadeInGo(t *testing.T) {
	call := json.RawMessage(`{"function":{"name":"f","arguments":"{\"b\":1,\"a\":2}"}}`)
	for want, m := range map[string]Message{
		`{"role": "user", "content": ""}`: {Role: "user"},
		`{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{\"b\":1,\"a\":2}"}}]}`: {Role: "assistant", ToolCalls: []json.RawMessage{call}},
		`{"role": "tool", "content": "x", "name": "f", "tool_call_id": "1", "k": [1]}`:                         {Role: "tool", Content: "x", Name: "f", ToolCallID: "1", Extra: []Field{{"k", json.RawMessage("[1]")}}},
		`{"thinking": "r", "role": "assistant", "content": "x", "reasoning_content": "r"}`:                     {Role: "assistant", Content: "x", ReasoningContent: "r"},
		`{"role": "user", "content": "a\nb"}`:                                                                  {Role: "user", Parts: []string{"a", "b"}},
	} {
		if got := toJSON(t, m); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	template, err := Parse("t", "{{ messages[0].tool_calls[0].function.arguments|tojson }}", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := template.Render([]Message{{Role: "assistant", ToolCalls: []json.RawMessage{call}}}, RenderOptions{ParseArguments: true})
	if want := `{"b": 1, "a": 2}`; got != want || err != nil {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

func TestMessageErrors(t *testing.T) {
	for in, want := range map[string]string{
		`{"content":"a"}`:             "no role",
		`[1]`:                         "not a JSON object",
		`{"role":5}`:                  `key "role"`,
		`{"role":"user","content":5}`: `key "content"`,
		`{"role":"user","content":[{"type":"image_url","image_url":{}}]}`: `content[0] of a message is of type "image_url"`,
		`{"role":"user","content":[{"type":"text"}]}`:                     "has no text",
		`{"role":"user","content":["a"]}`:                                 "not an object",
		`{"role":"user","tool_calls":{}}`:                                 `key "tool_calls"`,
	} {
		var m Message
		if err := json.Unmarshal([]byte(in), &m); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", in, err, want)
		}
	}
}

func TestRenderErrors(t *testing.T) {
	template, err := Parse("t", "{% if messages[0].content == 'no' %}{{ raise_exception('not <this>') }}{% endif %}{{ messages[0].content + nothing }}", nil)
	if err != nil {
		t.Fatal(err)
	}
	deep := json.RawMessage(strings.Repeat("[", 500) + strings.Repeat("]", 500))
	for name, test := range map[string]struct {
		messages []Message
		options  RenderOptions
		kind     fault.Kind
		want     string
	}{
		"no messages":         {nil, RenderOptions{}, fault.Usage, "no messages"},
		"raised":              {[]Message{{Role: "user", Content: "no"}}, RenderOptions{}, fault.Usage, "refuses the conversation: not <this>"},
		"failed":              {hello, RenderOptions{}, fault.Input, "t: chat template, line 1: 'nothing' is undefined"},
		"both":                {hello, RenderOptions{AddGenerationPrompt: true, ContinueFinalMessage: true}, fault.Usage, "continued"},
		"variable":            {hello, RenderOptions{Variables: map[string]any{"messages": 1}}, fault.Usage, `variable "messages"`},
		"variable type":       {hello, RenderOptions{Variables: map[string]any{"x": func() {}}}, fault.Usage, `variable "x"`},
		"tool":                {hello, RenderOptions{Tools: []json.RawMessage{json.RawMessage("5")}}, fault.Usage, "tool 1"},
		"nothing to continue": {[]Message{{Role: "assistant", ToolCalls: someTool}}, RenderOptions{ContinueFinalMessage: true}, fault.Usage, "no content"},
		"deep":                {[]Message{{Role: "user", Extra: []Field{{"x", deep}}}}, RenderOptions{}, fault.Usage, "nested deeper"},
	} {
		text, err := template.Render(test.messages, test.options)
		if fault.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) || text != "" {
			t.Errorf("%s: %q, %v; want %q", name, text, err, test.want)
		}
	}
}
