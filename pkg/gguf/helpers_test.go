package gguf

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/ggml"
)

// description describes a file: in the test data that scripts/make_ggml_fixtures.py writes, and
// in those that it reads from TestWriteForOthers.
type description struct {
	Metadata []describedKV     `json:"metadata"`
	Tensors  []describedTensor `json:"tensors"`
}

type describedKV struct {
	Key   string          `json:"key"`
	Type  string          `json:"type"` // "uint8", "[]string"
	Value json.RawMessage `json:"value"`
}

type describedTensor struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Shape   []int  `json:"shape"`
	Data    string `json:"data"`              // hexadecimal
	Weights string `json:"weights,omitempty"` // little-endian float32, hexadecimal
}

// kv returns the key and the value in the Go type of its name.
func (d describedKV) kv(t testing.TB) KV {
	t.Helper()
	var v any
	switch d.Type {
	case "uint8":
		v = decode[uint8](t, d.Value)
	case "int8":
		v = decode[int8](t, d.Value)
	case "uint16":
		v = decode[uint16](t, d.Value)
	case "int16":
		v = decode[int16](t, d.Value)
	case "uint32":
		v = decode[uint32](t, d.Value)
	case "int32":
		v = decode[int32](t, d.Value)
	case "uint64":
		v = decode[uint64](t, d.Value)
	case "int64":
		v = decode[int64](t, d.Value)
	case "float32":
		v = decode[float32](t, d.Value)
	case "float64":
		v = decode[float64](t, d.Value)
	case "bool":
		v = decode[bool](t, d.Value)
	case "string":
		v = decode[string](t, d.Value)
	case "[]uint8":
		var b []uint8
		for _, n := range decode[[]uint16](t, d.Value) { // JSON has []byte as text
			b = append(b, uint8(n))
		}
		v = b
	case "[]int8":
		v = decode[[]int8](t, d.Value)
	case "[]uint16":
		v = decode[[]uint16](t, d.Value)
	case "[]int16":
		v = decode[[]int16](t, d.Value)
	case "[]uint32":
		v = decode[[]uint32](t, d.Value)
	case "[]int32":
		v = decode[[]int32](t, d.Value)
	case "[]uint64":
		v = decode[[]uint64](t, d.Value)
	case "[]int64":
		v = decode[[]int64](t, d.Value)
	case "[]float32":
		v = decode[[]float32](t, d.Value)
	case "[]float64":
		v = decode[[]float64](t, d.Value)
	case "[]bool":
		v = decode[[]bool](t, d.Value)
	case "[]string":
		v = decode[[]string](t, d.Value)
	default:
		t.Fatalf("key %q: type %q", d.Key, d.Type)
	}
	return KV{d.Key, v}
}

func decode[T any](t testing.TB, text []byte) (v T) {
	t.Helper()
	must(t, json.Unmarshal(text, &v))
	return v
}

func (d describedTensor) info(t testing.TB) Info {
	t.Helper()
	kind, ok := ggml.ParseType(d.Type)
	if !ok {
		t.Fatalf("type %q", d.Type)
	}
	return Info{d.Name, kind, d.Shape}
}

func (d describedTensor) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(d.Data)
	must(t, err)
	return b
}

// parts returns the arguments that write the file that is described.
func (d description) parts(t testing.TB) (metadata []KV, infos []Info, data [][]byte) {
	for _, kv := range d.Metadata {
		metadata = append(metadata, kv.kv(t))
	}
	for _, x := range d.Tensors {
		infos, data = append(infos, x.info(t)), append(data, x.bytes(t))
	}
	return metadata, infos, data
}

var stems = []string{"all", "aligned", "none"}

func readDescription(t testing.TB, stem string) description {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", stem+".json"))
	must(t, err)
	return decode[description](t, text)
}

// verdict is a file with whether ggml's reader accepts its header.
type verdict struct {
	Name    string `json:"name"`
	Accepts bool   `json:"accepts"`
	File    string `json:"file"` // hexadecimal
}

func (v verdict) bytes(t testing.TB) []byte {
	b, err := hex.DecodeString(v.File)
	must(t, err)
	return b
}

func readVerdicts(t testing.TB) []verdict {
	t.Helper()
	f, err := os.Open("testdata/verdicts.json.gz")
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	text, err := io.ReadAll(z)
	must(t, err)
	return decode[[]verdict](t, text)
}

// write writes a whole file.
func write(t testing.TB, path string, metadata []KV, infos []Info, data [][]byte) {
	t.Helper()
	w, err := Create(path, metadata, infos)
	must(t, err)
	for i, x := range infos {
		must(t, w.Write(x.Name, data[i]))
	}
	must(t, w.Close())
}

// walk reads everything that a file has and returns what writes it again.
func walk(t testing.TB, f *File) (metadata []KV, infos []Info, data [][]byte) {
	t.Helper()
	for _, x := range f.Tensors() {
		b := make([]byte, x.Bytes())
		must(t, x.ReadRows(b, 0))
		infos, data = append(infos, Info{x.Name, x.Type, x.Shape}), append(data, b)
		if x.Type.Converts() {
			must(t, x.Float32(make([]float32, x.Rows()*x.Columns()), 0))
		}
		if y, ok := f.Tensor(x.Name); !ok || y != x {
			t.Fatalf("tensor %q is not found", x.Name)
		}
	}
	must(t, f.Check())
	return f.Metadata(), infos, data
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// difference names what two files differ in, "" if nothing.
func difference(a, b []byte) string {
	if bytes.Equal(a, b) {
		return ""
	}
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return fmt.Sprintf("%d and %d bytes, different from byte %d", len(a), len(b), i)
}

func contains(err error, part string) bool { return err != nil && strings.Contains(err.Error(), part) }
