package ggml

import (
	"compress/gzip"
	"io"
	"math"
	"os"
	"testing"
)

// records reads the test data that scripts/make_ggml_fixtures.py wrote.
type records struct {
	t    testing.TB
	data []byte
}

func openRecords(t testing.TB, name string) *records {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return &records{t, data}
}

func (r *records) bytes(n int) []byte {
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func (r *records) integer() int { return int(le.Uint32(r.bytes(4))) }

func (r *records) floats(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(le.Uint32(r.bytes(4)))
	}
	return out
}

// codeTypes are the types with codes.
func codeTypes() (types []Type) {
	for _, t := range Types() {
		if t.HasCodes() {
			types = append(types, t)
		}
	}
	return types
}

// fit is a matrix with the bytes that ggml quantizes it to.
type fit struct {
	kind          Type
	rows, columns int
	importance, x []float32
	theirs        []byte
}

func (r *records) fit() fit {
	f := fit{kind: Type(r.integer()), rows: r.integer(), columns: r.integer()}
	f.importance = r.floats(f.columns)
	f.x = r.floats(f.rows * f.columns)
	f.theirs = r.bytes(f.kind.RowBytes(len(f.x)))
	return f
}

// ours returns the bytes that Quantize makes of the matrix.
func (f *fit) ours(t testing.TB) []byte {
	out := make([]byte, len(f.theirs))
	row := f.kind.RowBytes(f.columns)
	for i := range f.rows {
		if err := f.kind.Quantize(out[i*row:][:row], f.x[i*f.columns:][:f.columns], f.importance); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// error returns the weighted squared error of a quantized matrix.
func (f *fit) error(t testing.TB, data []byte) (sum float64) {
	y := make([]float32, len(f.x))
	if err := f.kind.Dequantize(y, data); err != nil {
		t.Fatal(err)
	}
	for i, v := range f.x {
		off := float64(v) - float64(y[i])
		sum += float64(f.importance[i%f.columns]) * off * off
	}
	return sum
}
