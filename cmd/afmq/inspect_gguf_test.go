package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/ggml"
	"afmq/pkg/gguf"
)

// What a file says is printed on its line, without codes for the terminal.
func TestInspectGGUF(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	w, err := gguf.Create(path, []gguf.KV{
		{Key: "general.architecture", Value: "lla\x1b[31mma"}, {Key: "tokenizer.chat_template", Value: "a\nb\tc"},
	}, []gguf.Info{{Name: "w\x07", Type: ggml.Q8_0, Shape: []int{2, 32}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write("w\x07", make([]byte, 68)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	if err := printGGUFHeader(&out, f.Describe()); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\x07") {
		t.Errorf("control characters in\n%s", out.String())
	}
	for _, want := range []string{"string  a b c\n", "lla\uFFFD[31mma", "Q8_0  [2 32]  68 B", "68 B in 1 tensors, 8.5 bits each"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
