package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"afmq/internal/demo"
)

// A text of random tokens has control characters, which are printed escaped: an escape
// sequence of a model does not act on a terminal. JSON has the exact text.
func TestGenerateEscapesControls(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model")
	if err := demo.Extract(model); err != nil {
		t.Fatal(err)
	}
	generate := func(flags ...string) string {
		var stdout, stderr bytes.Buffer
		args := append([]string{"generate", model, "--prompt", "The", "--temperature", "100", "--seed", "5", "--max-tokens", "900", "--ignore-eos", "--compute", "f32"}, flags...)
		if code := run(args, &stdout, &stderr); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr.String())
		}
		return stdout.String()
	}
	raw := generate("--json")
	var o struct{ Text string }
	if err := json.Unmarshal([]byte(raw), &o); err != nil {
		t.Fatal(err)
	}
	control := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if !strings.ContainsFunc(o.Text, control) {
		t.Fatal("the model wrote no control character")
	}
	if i := strings.IndexFunc(raw, control); i >= 0 {
		t.Errorf("JSON has the control character %q", raw[i:i+1])
	}
	text := generate()
	if i := strings.IndexFunc(text, control); i >= 0 {
		t.Errorf("text has the control character %q", text[i:i+1])
	}
	if text != escapeControls(o.Text)+"\n" {
		t.Errorf("text is not that of the JSON object:\n%s\n%q", text, o.Text)
	}
}

func TestEscapeControls(t *testing.T) {
	for s, want := range map[string]string{
		"plain\n\ttext é 😀":      "plain\n\ttext é 😀",
		"\x1b[2J":                `\x1b[2J`,
		"a\r\nb":                 `a\r` + "\nb",
		"\u009b31m\x7f\x00\a\"'": `\u009b31m\x7f\x00\a"'`,
	} {
		if got := escapeControls(s); got != want {
			t.Errorf("%q: %q; want %q", s, got, want)
		}
	}
	var b bytes.Buffer
	const in = "\x1b \u009b \x7f \u00a0 <é>\n"
	if err := writeJSON(&b, map[string]string{"a": in}); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "{\n  \"a\": \"\\u001b \\u009b \\u007f \u00a0 <é>\\n\"\n}\n"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
	var back map[string]string
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["a"] != in {
		t.Errorf("%q, %v", back, err)
	}
}
