package gguf

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/disk"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
)

// For the same metadata and tensors the file is that of the gguf package, byte by byte.
func TestWriteReference(t *testing.T) {
	for _, stem := range stems {
		metadata, infos, data := readDescription(t, stem).parts(t)
		path := filepath.Join(t.TempDir(), "f.gguf")
		write(t, path, metadata, infos, data)
		if d := difference(read(t, filepath.Join("testdata", stem+".gguf")), read(t, path)); d != "" {
			t.Errorf("%s: %s", stem, d)
		}
		header, total, err := FileSize(metadata, infos)
		if f := open(t, path); err != nil || total != f.Bytes() || len(infos) > 0 && header != f.Tensors()[0].Offset() {
			t.Errorf("%s: FileSize is %d, %d, %v", stem, header, total, err)
		}
	}
}

// TestWriteForOthers writes files to the directory AFMQ_GGUF_OUT, for
// scripts/make_ggml_fixtures.py --check.
func TestWriteForOthers(t *testing.T) {
	dir := os.Getenv("AFMQ_GGUF_OUT")
	if dir == "" {
		t.Skip("AFMQ_GGUF_OUT is not set")
	}
	for _, stem := range append(stems, "types") {
		var d description
		if stem == "types" {
			d = everyType(t)
		} else {
			d = readDescription(t, stem)
		}
		metadata, infos, data := d.parts(t)
		path := filepath.Join(dir, stem+".gguf")
		must(t, os.RemoveAll(path))
		write(t, path, metadata, infos, data)
		text, err := json.Marshal(d)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, stem+".json"), text, 0o666))
	}
}

// everyType describes a file with a tensor of each type, quantized here.
func everyType(t *testing.T) (d description) {
	d.Metadata = []describedKV{{"general.architecture", "string", json.RawMessage(`"test"`)}}
	x := make([]float32, 512)
	for i := range x {
		x[i] = float32(math.Sin(float64(i*i))) * 0.02
	}
	for _, kind := range ggml.Types() {
		data, y := make([]byte, kind.RowBytes(len(x))), make([]float32, len(x))
		must(t, kind.Quantize(data, x, nil))
		must(t, kind.Dequantize(y, data))
		var weights []byte
		for _, v := range y {
			weights = le.AppendUint32(weights, math.Float32bits(v))
		}
		d.Tensors = append(d.Tensors, describedTensor{"w." + kind.String(), kind.String(), []int{2, 256}, hex.EncodeToString(data), hex.EncodeToString(weights)})
	}
	return d
}

var fourTensors = []Info{{"none", ggml.F32, []int{0, 4}}, {"a", ggml.F32, []int{3}}, {"b", ggml.Q8_0, []int{2, 32}}, {"last", ggml.F16, []int{0}}}

// Data may come in chunks, and calls out of order are refused.
func TestAppend(t *testing.T) {
	dir := t.TempDir()
	whole, parts := filepath.Join(dir, "whole"), filepath.Join(dir, "parts")
	a, b := []byte("0123456789ab"), make([]byte, 68)
	write(t, whole, nil, fourTensors, [][]byte{nil, a, b, nil})
	w, err := Create(parts, nil, fourTensors)
	must(t, err)
	refused := func(err error, part string) {
		t.Helper()
		if !contains(err, part) {
			t.Errorf("%v, expected %s", err, part)
		}
	}
	refused(w.Write("b", b), `expected "a"`)
	refused(w.Write("a", b), "got 68 bytes, expected 12")
	refused(w.Close(), `tensor "a" is missing`)
	must(t, w.Append(a[:5]))
	refused(w.Write("b", b), `tensor "a" is incomplete`)
	refused(w.Append(a), "got 12 bytes, 7 remain")
	must(t, w.Append(a[5:]))
	must(t, w.Write("b", b))
	must(t, w.Write("last", nil))
	refused(w.Append(a), "12 bytes after the last tensor")
	refused(w.Write("c", a), "all tensors are written")
	must(t, w.Close())
	refused(w.Append(a), "writer is closed")
	must(t, w.Abort())
	if d := difference(read(t, whole), read(t, parts)); d != "" {
		t.Error(d)
	}
}

// A file at the path is never replaced, and an aborted writer leaves nothing.
func TestNothingIsReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f.gguf")
	w, err := Create(path, nil, nil)
	must(t, err)
	if _, err := Create(path, nil, nil); fault.KindOf(err) != fault.Output || !errors.Is(err, disk.ErrLocked) {
		t.Errorf("a second writer: %v", err)
	}
	must(t, os.WriteFile(path, []byte("mine"), 0o666))
	if err := w.Close(); fault.KindOf(err) != fault.Output || !contains(err, "already exists") {
		t.Errorf("a file that appeared: %v", err)
	}
	must(t, w.Abort())
	if _, err := Create(path, nil, nil); fault.KindOf(err) != fault.Output || !contains(err, "already exists") {
		t.Errorf("a file that exists: %v", err)
	}
	if got := string(read(t, path)); got != "mine" {
		t.Errorf("the file became %q", got)
	}
	if _, err := os.Lstat(disk.StagedPath(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the staged file: %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	f32 := func(name string, shape ...int) []Info { return []Info{{name, ggml.F32, shape}} }
	for _, tc := range []struct {
		metadata []KV
		infos    []Info
		part     string
	}{
		{[]KV{{"k", 1}}, nil, `key "k": a value of the Go type int cannot be stored`},
		{[]KV{{"k", nil}}, nil, "cannot be stored"},
		{[]KV{{"k", []any{uint8(1)}}}, nil, "an array of arrays"},
		{[]KV{{"k", []any{[]any{[]any{[]any{[]any{}}}}}}}, nil, "nested deeper than 4"},
		{[]KV{{"", true}}, nil, "is empty"},
		{[]KV{{"k", true}, {"k", true}}, nil, `duplicate key "k"`},
		{[]KV{{alignmentKey, uint32(12)}}, nil, "12 is not a power of two"},
		{nil, f32(strings.Repeat("x", 64), 1), "has 64 bytes"},
		{nil, f32("a\xff", 1), "UTF-8"},
		{nil, append(f32("a", 1), f32("a", 2)...), `duplicate tensor "a"`},
		{nil, f32("a", 1, 1, 1, 1, 1), "has 5 dimensions"},
		{nil, f32("a", -1), "negative"},
		{nil, f32("a", math.MaxInt32, math.MaxInt32, math.MaxInt32), "overflows"},
		{nil, []Info{{"a", ggml.Q4_K, []int{128}}}, "rows of Q4_K are multiples of 256"},
		{nil, []Info{{"a", 4, []int{128}}}, "type 4 is unknown"},
	} {
		path := filepath.Join(t.TempDir(), "f")
		if _, err := Create(path, tc.metadata, tc.infos); !contains(err, tc.part) {
			t.Errorf("%v, expected %s", err, tc.part)
		}
		if _, err := os.Lstat(disk.StagedPath(path)); err == nil {
			t.Errorf("%s: a staged file is left", tc.part)
		}
	}
}

// Arrays of arrays are written and read, though ggml has none.
func TestNested(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	want := []KV{{"k", []any{[]uint8{1}, []string{}, []any{[]bool{true}}}}}
	write(t, path, want, nil, nil)
	if got := open(t, path).Metadata(); fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
		t.Errorf("%#v", got)
	}
}

// BenchmarkOpen opens a file with 32000 tokens and 300 tensors.
func BenchmarkOpen(b *testing.B) {
	var tokens []string
	for i := range 32000 {
		tokens = append(tokens, fmt.Sprint("token", i))
	}
	var infos []Info
	var data [][]byte
	for i := range 300 {
		infos, data = append(infos, Info{fmt.Sprint("blk.", i), ggml.F16, []int{4, 4}}), append(data, make([]byte, 32))
	}
	path := filepath.Join(b.TempDir(), "f")
	write(b, path, []KV{{"tokenizer.ggml.tokens", tokens}}, infos, data)
	for b.Loop() {
		f, err := Open(path)
		must(b, err)
		f.Close()
	}
}
