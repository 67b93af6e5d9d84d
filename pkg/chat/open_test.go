package chat

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/gguf"
)

func marshal(v any) (string, error) {
	data, err := json.Marshal(v)
	return string(data), err
}

func unmarshal(s string, v any) error { return json.Unmarshal([]byte(s), v) }

// checkpoint writes files, by their path, into a directory.
func checkpoint(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var (
	hello    = []Message{{Role: "user", Content: "Hi"}}
	someTool = []json.RawMessage{json.RawMessage(`{"name": "f"}`)}
)

// Which template is taken, and its special tokens, are those of transformers 5.23.0.
func TestOpen(t *testing.T) {
	const config = "tokenizer_config.json"
	all := "{{ bos_token }}|{{ eos_token }}|{{ image_token }}|{{ pad_token is defined }}"
	quoted, _ := marshal(all)
	for name, test := range map[string]struct {
		files       map[string]string
		want, tools string // "" for tools is want
	}{
		"string":           {files: map[string]string{config: `{"chat_template": "S{{ bos_token }}", "bos_token": "<b>"}`}, want: "S<b>"},
		"file":             {files: map[string]string{config: `{"chat_template": "S"}`, "chat_template.jinja": "F"}, want: "F"},
		"no configuration": {files: map[string]string{"chat_template.jinja": "F{{ bos_token }}"}, want: "F"},
		"list": {
			files: map[string]string{config: `{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}`},
			want:  "D", tools: "T",
		},
		"directory": {
			files: map[string]string{config: `{"chat_template": "S"}`, "chat_template.jinja": "F", "additional_chat_templates/tool_use.jinja": "A"},
			want:  "F", tools: "A",
		},
		"objects":    {files: map[string]string{config: `{"chat_template": ` + quoted + `, "bos_token": {"content": "<b>", "lstrip": false}, "eos_token": "</e>", "pad_token": null}`}, want: "<b>|</e>||False"},
		"own tokens": {files: map[string]string{config: `{"chat_template": ` + quoted + `, "image_token": "<i>", "extra_special_tokens": {"eos_token": "x"}}`}, want: "|x|<i>|False"},
		"older files": {
			files: map[string]string{config: `{"chat_template": ` + quoted + `, "bos_token": "a"}`, "special_tokens_map.json": `{"bos_token": "b", "eos_token": {"content": "c"}}`},
			want:  "b|c||False",
		},
		"newer files": {
			files: map[string]string{config: `{"chat_template": ` + quoted + `, "bos_token": "a", "added_tokens_decoder": {}}`, "special_tokens_map.json": `{"bos_token": "b"}`},
			want:  "a|||False",
		},
	} {
		t.Run(name, func(t *testing.T) {
			template, err := Open(checkpoint(t, test.files))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := template.Render(hello, RenderOptions{}); got != test.want || err != nil {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
			if test.tools == "" {
				test.tools = test.want
			}
			if got, err := template.Render(hello, RenderOptions{Tools: someTool}); got != test.tools || err != nil {
				t.Errorf("with tools: %q, %v; want %q", got, err, test.tools)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	const config = "tokenizer_config.json"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
		none  bool
	}{
		"nothing":       {files: nil, want: "there is no chat template", none: true},
		"no template":   {files: map[string]string{config: `{"bos_token": "<s>"}`}, want: "there is no chat template", none: true},
		"null":          {files: map[string]string{config: `{"chat_template": null}`}, want: "there is no chat template", none: true},
		"empty":         {files: map[string]string{config: `{"chat_template": ""}`}, want: "there is no chat template", none: true},
		"number":        {files: map[string]string{config: `{"chat_template": 5}`}, want: "neither a string nor a list"},
		"nameless":      {files: map[string]string{config: `{"chat_template": [{"template": "x"}]}`}, want: "chat_template[0] lacks a name"},
		"bad JSON":      {files: map[string]string{config: `{`}, want: config + ": is not a JSON object"},
		"bad token":     {files: map[string]string{config: `{"chat_template": "x", "bos_token": 5}`}, want: "bos_token is neither"},
		"bad template":  {files: map[string]string{"chat_template.jinja": "a\n{% if %}"}, want: "chat_template.jinja: chat template, line 2: "},
		"bad construct": {files: map[string]string{"chat_template.jinja": "a\n\n{% include 'b' %}"}, want: `chat template, line 3: the tag "include" is not supported`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(checkpoint(t, test.files))
			if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), test.want) || errors.Is(err, ErrNoTemplate) != test.none {
				t.Errorf("%v; want %q", err, test.want)
			}
		})
	}
}

func TestOpenNothing(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "x")); fault.KindOf(err) != fault.Input || errors.Is(err, ErrNoTemplate) {
		t.Errorf("%v", err)
	}
}

// A template of several that is not valid is an error when it is used.
func TestNames(t *testing.T) {
	dir := checkpoint(t, map[string]string{"tokenizer_config.json": `{"chat_template": [{"name": "rag", "template": "R"}, {"name": "tool_use", "template": "{% x %}"}, {"name": "default", "template": "D"}]}`})
	template, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := template.Render(hello, RenderOptions{Template: "rag"}); got != "R" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := template.Render(hello, RenderOptions{Template: "other"}); fault.KindOf(err) != fault.Usage {
		t.Errorf("%v", err)
	}
	if _, err := template.Render(hello, RenderOptions{Tools: someTool}); fault.KindOf(err) != fault.Input {
		t.Errorf("%v", err)
	}
	if source, ok := template.Source("default"); source != "D" || !ok || strings.Join(template.Names(), " ") != "default rag tool_use" {
		t.Errorf("%q, %v, %v", source, ok, template.Names())
	}
	if _, ok := template.Source("x"); ok {
		t.Error("there is a template x")
	}
	only, err := Open(checkpoint(t, map[string]string{"additional_chat_templates/rag.jinja": "R"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := only.Render(hello, RenderOptions{}); fault.KindOf(err) != fault.Input {
		t.Errorf("%v", err)
	}
}

func writeGGUF(t *testing.T, metadata ...gguf.KV) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	w, err := gguf.Create(path, metadata, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenGGUF(t *testing.T) {
	tokens := gguf.KV{Key: "tokenizer.ggml.tokens", Value: []string{"<b>", "</e>", "<p>"}}
	path := writeGGUF(t, tokens,
		gguf.KV{Key: "tokenizer.ggml.bos_token_id", Value: uint32(0)}, gguf.KV{Key: "tokenizer.ggml.eos_token_id", Value: uint32(1)},
		gguf.KV{Key: "tokenizer.chat_template", Value: "D{{ bos_token }}{{ eos_token }}{{ pad_token }}"},
		gguf.KV{Key: "tokenizer.chat_templates", Value: []string{"tool_use"}}, gguf.KV{Key: "tokenizer.chat_template.tool_use", Value: "T"})
	template, err := OpenGGUF(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := template.Render(hello, RenderOptions{}); got != "D<b></e>" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := template.Render(hello, RenderOptions{Tools: someTool}); got != "T" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := OpenGGUF(writeGGUF(t, tokens)); !errors.Is(err, ErrNoTemplate) || fault.KindOf(err) != fault.Input {
		t.Errorf("%v; want ErrNoTemplate", err)
	}
	for _, kv := range []gguf.KV{{Key: "tokenizer.chat_template", Value: uint32(1)}, {Key: "tokenizer.chat_templates", Value: "x"}} {
		if _, err := OpenGGUF(writeGGUF(t, kv)); fault.KindOf(err) != fault.Input || errors.Is(err, ErrNoTemplate) {
			t.Errorf("%s: %v", kv.Key, err)
		}
	}
	beyond := writeGGUF(t, tokens, gguf.KV{Key: "tokenizer.ggml.bos_token_id", Value: uint32(3)}, gguf.KV{Key: "tokenizer.chat_template", Value: "x"})
	if _, err := OpenGGUF(beyond); fault.KindOf(err) != fault.Input {
		t.Errorf("%v; want an error of the token", err)
	}
}
