// Package exporttest has what the tests of exporters share: small models of every family.
package exporttest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"afmq/pkg/quantize"
)

// Models is the directory of the checkpoints of every family, seen from an exporter's package.
const Models = "../../infer/testdata/models"

// tokenizerJSON is a tokenizer of few tokens, which the checkpoints have none of.
const tokenizerJSON = `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"post_processor":null,"decoder":{"type":"ByteLevel"},
"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2},"merges":[]}}`

// Names returns the names of the checkpoints.
func Names(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(Models)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 20 {
		t.Fatalf("%d fixtures; they were more", len(entries))
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Copy copies a checkpoint to a temporary directory and adds a tokenizer.
func Copy(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(filepath.Join(Models, name))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "expected.safetensors" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(Models, name, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		Write(t, filepath.Join(dir, e.Name()), data)
	}
	Write(t, filepath.Join(dir, "tokenizer.json"), []byte(tokenizerJSON))
	return dir
}

// Write writes a file.
func Write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// Quantize quantizes a model into a temporary directory.
func Quantize(t *testing.T, opts quantize.Options) string {
	t.Helper()
	opts.Out = filepath.Join(t.TempDir(), "q")
	if _, err := quantize.Run(context.Background(), opts); err != nil {
		t.Fatal(err)
	}
	return opts.Out
}

// Demo quantizes the embedded model.
func Demo(t *testing.T, bits int) string {
	t.Helper()
	return Quantize(t, quantize.Options{Model: "../../../internal/demo/model", Bits: bits})
}

// Contents returns the files below a directory by their paths.
func Contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
