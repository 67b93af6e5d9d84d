package model

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// inputError fails unless err is about a file, in one line.
func inputError(t *testing.T, err error) {
	t.Helper()
	if fault.KindOf(err) != fault.Input || strings.ContainsAny(err.Error(), "\n\r") {
		t.Fatalf("%v: %q", fault.KindOf(err), err)
	}
}

// FuzzGenerationConfig checks that a generation_config.json is refused, or names tokens of
// the vocabulary.
func FuzzGenerationConfig(f *testing.F) {
	for _, s := range []string{`{"eos_token_id": 2}`, `{"eos_token_id": [1, 2]}`, `{"eos_token_id": -1}`, `{"eos_token_id": 1e9}`, `[]`,
		`{"eos_token_id": 1, "eos_token_id": 2}`, `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}"} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	config, err := os.ReadFile("../infer/testdata/models/llama-biases/config.json")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), data, 0o666); err != nil {
			t.Fatal(err)
		}
		c, err := LoadConfig(dir)
		if err != nil {
			inputError(t, err)
			return
		}
		if slices.ContainsFunc(c.EOS, func(id int32) bool { return id < 0 || int(id) >= c.VocabSize }) {
			t.Fatalf("end-of-sequence tokens %v of %d", c.EOS, c.VocabSize)
		}
	})
}

// FuzzSameTokenizer checks that a tokenizer is itself, whatever its file holds.
func FuzzSameTokenizer(f *testing.F) {
	f.Add([]byte(`{"model":{"vocab":{"a":1}},"truncation":null}`))
	f.Add([]byte(`{"n":` + strings.Repeat("9", 400) + `}`))
	f.Add([]byte(`[]`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), data, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := SameTokenizer(dir, dir); err != nil {
			inputError(t, err)
		}
	})
}
