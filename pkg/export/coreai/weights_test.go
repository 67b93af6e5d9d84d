package coreai

import (
	"bytes"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/quantize"
)

// probed returns a payload with these bytes.
func probed(t *testing.T, kind string, shape []int, data []byte) *payload {
	t.Helper()
	p := &payload{part: part{kind, kind, shape, int64(len(data)), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}}
	p.probe = probe{bits: p.elementBits(), end: elements(shape) * int64(p.elementBits())}
	if err := p.part.write(&p.probe); err != nil {
		t.Fatal(err)
	}
	return p
}

// The compiler stores a constant of equal elements as one of them, and every other one whole
// (measured with coreai-core 1.0.0b3).
func TestUniform(t *testing.T) {
	for _, test := range []struct {
		kind  string
		shape []int
		data  []byte
		want  bool
	}{
		{"uint4", []int{2, 16}, bytes.Repeat([]byte{0x55}, 16), true},
		{"uint4", []int{2, 16}, bytes.Repeat([]byte{0x5a}, 16), false},
		{"uint3", []int{2, 16}, bytes.Repeat([]byte{0x6d, 0xdb, 0xb6}, 4), true}, // 5, 5, ...
		{"uint3", []int{2, 16}, bytes.Repeat([]byte{0x6d, 0xdb, 0xb7}, 4), false},
		{"uint6", []int{2, 6}, bytes.Repeat([]byte{0x65, 0x59, 0x96}, 3), true}, // 37, 37, ...
		{"uint3", []int{1, 9}, []byte{0x6d, 0xdb, 0xb6, 0x05}, true},            // with padding
		{"uint3", []int{1, 9}, []byte{0x6d, 0xdb, 0xb6, 0x04}, false},           // the last is 4
		{"int8", []int{2, 8}, bytes.Repeat([]byte{1, 2}, 8), false},             // not two equal bytes
		{"int8", []int{2, 8}, bytes.Repeat([]byte{0xff}, 16), true},
		{"float16", []int{8}, bytes.Repeat([]byte{0, 0x3c}, 8), true},
		{"float16", []int{2}, []byte{0, 0x3c, 0, 0xbc}, false},
		{"float16", []int{1}, []byte{0, 0x3c}, true},
	} {
		if got := probed(t, test.kind, test.shape, test.data).uniform(); got != test.want {
			t.Errorf("%s % x: uniform %v, expected %v", test.kind, test.data, got, test.want)
		}
	}
}

// Payloads are found wherever they are: at the start and the end of the file, across the blocks
// that the search reads, and if they have fewer bytes than an anchor. Changed ones are not.
func TestSearch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = byte(rng.Uint32())
		}
		return out
	}
	first, across, last, short := random(100), random(5000), random(9), []byte{0, 0x3c, 1, 0xbc}
	file := make([]byte, 2*searchBlock+77)
	copy(file, first)
	copy(file[searchBlock-3:], across)
	copy(file[searchBlock+9000:], short)
	copy(file[len(file)-len(last):], last)
	damaged := bytes.Clone(across)
	damaged[4999] ^= 1
	var payloads []*payload
	for _, data := range [][]byte{first, across, last, damaged} {
		payloads = append(payloads, probed(t, "int8", []int{len(data)}, data))
	}
	payloads = append(payloads, probed(t, "float16", []int{2}, short), probed(t, "float16", []int{2}, []byte{0, 0x3c, 1, 0x3c}))
	if err := search(bg, bytes.NewReader(file), payloads, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, true, false, true, false} {
		if payloads[i].found != want {
			t.Errorf("payload %d: found %v, expected %v", i, payloads[i].found, want)
		}
	}
}

// A payload that starts with zeros is not compared at every zero of the file.
func TestSearchAmongZeros(t *testing.T) {
	data := append(make([]byte, 4096), 1, 2, 3, 4, 5, 6, 7, 8, 9)
	f := &countingReader{data: append(make([]byte, 300_000), data...)}
	p := probed(t, "int8", []int{len(data)}, data)
	if err := search(bg, f, []*payload{p}, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if !p.found || f.read > 2*int64(len(f.data)) {
		t.Errorf("found %v, read %d bytes of %d", p.found, f.read, len(f.data))
	}
}

type countingReader struct {
	data []byte
	read int64
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(c.data).ReadAt(p, off)
	c.read += int64(n)
	return n, err
}

// A table of two entries has fewer bytes than an anchor.
func TestOneTableOfTwoEntries(t *testing.T) {
	q := exporttest.Quantize(t, quantize.Options{Model: "../../../internal/demo/model", Bits: 1, GroupRows: 1 << 20, NoRowScale: true})
	_, err := Export(bg, Options{Artifact: q, Out: filepath.Join(t.TempDir(), "m"), Python: fake(t, "none", q)})
	if err != nil {
		t.Error(err)
	}
}
