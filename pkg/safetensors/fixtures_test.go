package safetensors

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

// description describes a file: in the fixtures that
// scripts/make_safetensors_fixtures.py writes, and in those that it reads from the tests.
type description struct {
	Metadata map[string]string `json:"metadata"`
	Tensors  []described       `json:"tensors"` // in the order of their data
}

type described struct {
	Name    string   `json:"name"`
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Data    string   `json:"data"`              // hexadecimal
	Float32 []uint32 `json:"float32,omitempty"` // bits of the values, by torch
}

func (d described) info() Info {
	return Info{Name: d.Name, DType: dtypeOf[d.DType], Shape: d.Shape}
}

func (d described) bytes(t *testing.T) []byte {
	b, err := hex.DecodeString(d.Data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readDescription(t *testing.T, stem string) description {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", stem+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

var stems = []string{"all", "plain", "none", "metadata"}

// Files of the reference implementation read as it wrote them, mapped or not, and
// convert to float32 as torch does.
func TestReadReference(t *testing.T) {
	for _, stem := range stems {
		t.Run(stem+"/mapped", func(t *testing.T) { testRead(t, stem, true) })
		t.Run(stem+"/heap", func(t *testing.T) {
			unmappable(t)
			testRead(t, stem, false)
		})
	}
}

// unmappable makes every mapping fail for the duration of the test.
func unmappable(t *testing.T) {
	old := mapFile
	mapFile = func(*os.File, int) ([]byte, error) { return nil, os.ErrPermission }
	t.Cleanup(func() { mapFile = old })
}

func testRead(t *testing.T, stem string, mapped bool) {
	want := readDescription(t, stem)
	f, err := Open(filepath.Join("testdata", stem+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.m.mapped != mapped {
		t.Fatalf("mapped: %v", f.m.mapped)
	}
	if diff := cmp.Diff(want.Metadata, f.Metadata()); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	names := []string{}
	for _, d := range want.Tensors {
		names = append(names, d.Name)
		x, ok := f.Tensor(d.Name)
		if !ok {
			t.Errorf("%q: missing", d.Name)
			continue
		}
		if x.Name != d.Name || x.DType.String() != d.DType || !slices.Equal(x.Shape, d.Shape) {
			t.Errorf("%q: %s %v, want %s %v", x.Name, x.DType, x.Shape, d.DType, d.Shape)
		}
		if !bytes.Equal(x.Bytes(), d.bytes(t)) {
			t.Errorf("%q: bytes differ", d.Name)
		}
		if x.NumElements() != len(d.Float32) {
			t.Fatalf("%q: %d elements, want %d", d.Name, x.NumElements(), len(d.Float32))
		}
		got := make([]float32, len(d.Float32))
		if err := x.Float32(got, 0); err != nil {
			t.Fatal(err)
		}
		for i, bits := range d.Float32 {
			if w := math.Float32frombits(bits); math.Float32bits(got[i]) != bits && (w == w || got[i] == got[i]) {
				t.Errorf("%q[%d] = %v (%08x), want %v (%08x)", d.Name, i, got[i], math.Float32bits(got[i]), w, bits)
			}
		}
		x.Release()
		if !bytes.Equal(x.Bytes(), d.bytes(t)) {
			t.Errorf("%q: bytes differ after Release", d.Name)
		}
	}
	// Tensors without data share their place with the next, and the library does
	// not promise an order among them.
	got := f.Names()
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("names %q, want %q", got, names)
	}
}

// A file written in the reference implementation's order is identical to the one that
// it writes.
func TestWriteReference(t *testing.T) {
	for _, stem := range stems {
		t.Run(stem, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join("testdata", stem+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			f, err := Open(filepath.Join("testdata", stem+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var infos []Info
			for _, x := range f.tensors {
				infos = append(infos, Info{x.Name, x.DType, x.Shape})
			}
			path := filepath.Join(t.TempDir(), "x.safetensors")
			w, err := Create(path, infos, f.Metadata())
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range f.tensors {
				if err := w.Write(x.Name, x.Bytes()); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// TestWriteForReference writes files into the directory that AFMQ_SAFETENSORS_OUT
// names, for scripts/make_safetensors_fixtures.py --check to read with the library.
func TestWriteForReference(t *testing.T) {
	dir := os.Getenv("AFMQ_SAFETENSORS_OUT")
	if dir == "" {
		dir = t.TempDir()
	} else if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, stem := range stems {
		d := readDescription(t, stem)
		writeDescribed(t, filepath.Join(dir, stem), d)
		slices.Reverse(d.Tensors) // falling sizes before: now unaligned
		d.Metadata = map[string]string{"z": "", "a": "\"\\\n\x00\x1f", "é": "層\U0001f600", "": "x"}
		writeDescribed(t, filepath.Join(dir, stem+"-reversed"), d)
	}
}

func writeDescribed(t *testing.T, stem string, d description) {
	t.Helper()
	var infos []Info
	for _, x := range d.Tensors {
		infos = append(infos, x.info())
	}
	w, err := Create(stem+".safetensors", infos, d.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range d.Tensors {
		b := x.bytes(t)
		for len(b) > 0 { // in chunks that split elements
			n := min(len(b), 7)
			if err := w.Append(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(d)
	if err == nil {
		err = os.WriteFile(stem+".json", text, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(stem + ".safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if diff := cmp.Diff(d.Metadata, f.Metadata()); diff != "" {
		t.Errorf("%s: metadata (-want +got):\n%s", stem, diff)
	}
	for i, x := range d.Tensors {
		if got := f.tensors[i]; got.Name != x.Name || !bytes.Equal(got.Bytes(), x.bytes(t)) {
			t.Errorf("%s: tensor %d is %q, want %q", stem, i, got.Name, x.Name)
		}
		checkViews(t, f.tensors[i])
	}
}

// stricter lists the files that this package refuses although the reference
// implementation accepts them (see the package comment), with a part of the error.
var stricter = map[string]string{
	"json/space-first":              "does not begin with '{'",
	"tensor/as-array":               `expected '{'`,
	"tensor/duplicate-name":         `duplicate key "w"`,
	"tensor/duplicate-name-escaped": `duplicate key "w"`,
	"tensor/duplicate-extra":        `tensor "w": at byte 63: duplicate key "x"`,
	"metadata/duplicate-key":        `duplicate key "a"`,
	"dtype/F8_E8M0":                 `dtype "F8_E8M0" is not supported`,
	"dtype/C64":                     `dtype "C64" is not supported`,
	"dtype/F4":                      `dtype "F4" is not supported`,
}

// Malformed and unusual files are accepted or refused as by the reference implementation.
func TestVerdicts(t *testing.T) {
	for _, v := range readVerdicts(t) {
		t.Run(v.Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f.safetensors")
			if err := os.WriteFile(path, v.file, 0o666); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path)
			if piece := stricter[v.Name]; piece != "" {
				if !v.Accepted || err == nil || !strings.Contains(err.Error(), piece) {
					t.Errorf("reference accepts: %v; error %v, want one with %q", v.Accepted, err, piece)
				}
			} else if (err == nil) != v.Accepted {
				t.Errorf("error %v, but reference accepts: %v (%s)", err, v.Accepted, v.Said)
			}
			if err == nil {
				walk(t, f)
				f.Close()
				return
			}
			if fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), path+": ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line of kind Input that names the file: %v", err)
			}
		})
	}
}

type verdict struct {
	Name     string `json:"name"`
	File     string `json:"file"` // base64 of zlib
	Accepted bool   `json:"accepted"`
	Said     string `json:"said"`
	file     []byte
}

func readVerdicts(t testing.TB) []verdict {
	text, err := os.ReadFile("testdata/verdicts.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []verdict
	if err := json.Unmarshal(text, &vs); err != nil {
		t.Fatal(err)
	}
	for i := range vs {
		packed, err := base64.StdEncoding.DecodeString(vs[i].File)
		if err != nil {
			t.Fatal(err)
		}
		r, err := zlib.NewReader(bytes.NewReader(packed))
		if err == nil {
			vs[i].file, err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return vs
}

// walk reads all tensors of an open file and checks its sizes.
func walk(t testing.TB, f *File) {
	data := int64(0)
	for _, name := range f.Names() {
		x, ok := f.Tensor(name)
		if !ok {
			t.Fatalf("%q is a name without a tensor", name)
		}
		n := 1
		for _, dim := range x.Shape {
			n *= dim
		}
		if n != x.NumElements() || len(x.Bytes()) != n*x.DType.Size() {
			t.Fatalf("%q: %s %v has %d elements in %d bytes", name, x.DType, x.Shape, x.NumElements(), len(x.Bytes()))
		}
		data += int64(len(x.Bytes()))
		checkViews(t, x)
		x.Release()
	}
	if f.HeaderBytes()+data != f.Bytes() {
		t.Fatalf("%d bytes of header and %d of data in a file of %d", f.HeaderBytes(), data, f.Bytes())
	}
}
