// Package exporttest has what the tests of exporters share: small models of every family.
package exporttest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/quantize"
)

// Models is the directory of the checkpoints of every family, seen from an exporter's package.
const Models = "../../infer/testdata/models"

// tokenizerJSON is a tokenizer of few tokens, which the checkpoints have none of.
const tokenizerJSON = `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"post_processor":null,"decoder":{"type":"ByteLevel"},
"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2},"merges":[]}}`

// exported are the families that exporters write; [Refuses] is about the others.
var exported = []string{"llama", "mistral", "qwen2", "qwen3"}

// Names returns the names of the checkpoints of the families that exporters write.
func Names(t *testing.T) []string {
	t.Helper()
	names, _ := divided(t)
	if len(names) < 20 {
		t.Fatalf("%d fixtures; they were more", len(names))
	}
	return names
}

func divided(t *testing.T) (names []string, others map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(Models)
	if err != nil {
		t.Fatal(err)
	}
	others = map[string]string{}
	for _, e := range entries {
		c, err := model.LoadConfig(filepath.Join(Models, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(exported, c.ModelType) {
			names = append(names, e.Name())
		} else {
			others[c.ModelType] = e.Name()
		}
	}
	return names, others
}

// Refuses checks that an export of every other family is refused in one line that names it.
func Refuses(t *testing.T, export func(artifact, out string) error) {
	t.Helper()
	_, others := divided(t)
	if len(others) == 0 {
		t.Fatal("no fixtures of other families")
	}
	for family, name := range others {
		out := filepath.Join(t.TempDir(), "out")
		err := export(Quantize(t, quantize.Options{Model: Copy(t, name), Bits: 4}), out)
		if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), family) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, expected a refusal that names the family", name, err)
		}
		if _, err := os.Lstat(out); err == nil {
			t.Errorf("%s: the refused export wrote something", name)
		}
	}
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
