package gguf

import (
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/ggml"
)

func TestDescribe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	metadata := []KV{
		{"general.architecture", "llama"}, {"general.name", strings.Repeat("n", 300)}, {"llama.block_count", uint32(2)},
		{"tokenizer.ggml.tokens", []string{"a", "b", "c"}}, {"nested", []any{[]int32{1}, []int32{2, 3}}},
	}
	infos := []Info{{"w", ggml.Q4_K, []int{3, 512}}, {"v", ggml.F32, []int{7}}, {"x", ggml.Q4_K, []int{1, 256}}}
	w, err := Create(path, metadata, infos)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		n, err := info.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(info.Name, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := f.Describe()
	if d.Architecture != "llama" || d.Kind != "model" || len(d.Name) != 300 || d.Parameters != 3*512+7+256 || d.WeightBytes != 7*144+28 {
		t.Errorf("%+v", d)
	}
	if len(d.Types) != 2 || d.Types[0] != (TypeCount{"Q4_K", 2, 7 * 144, 4.5}) || d.Types[1] != (TypeCount{"F32", 1, 28, 32}) {
		t.Errorf("types %+v", d.Types)
	}
	want := []KeyText{
		{"general.architecture", "string", "llama"}, {"general.name", "string", strings.Repeat("n", 200) + "…"}, {"llama.block_count", "uint32", "2"},
		{"tokenizer.ggml.tokens", "array of string", "3 elements"}, {"nested", "array of array", "2 elements"},
	}
	for i, k := range d.Metadata {
		if k != want[i] {
			t.Errorf("key %d: %+v, want %+v", i, k, want[i])
		}
	}
	if len(d.Tensors) != 3 || d.Tensors[2].Name != "x" || d.Tensors[2].Bytes != 144 {
		t.Errorf("tensors %+v", d.Tensors)
	}
}
