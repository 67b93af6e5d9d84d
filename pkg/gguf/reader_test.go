package gguf

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

// Files of the gguf package read as it wrote them.
func TestReadReference(t *testing.T) {
	for _, stem := range stems {
		f := open(t, filepath.Join("testdata", stem+".gguf"))
		wantKeys, wantInfos, wantData := readDescription(t, stem).parts(t)
		metadata, infos, data := walk(t, f)
		if d := cmp.Diff(wantKeys, metadata); d != "" {
			t.Errorf("%s: metadata: %s", stem, d)
		}
		if d := cmp.Diff(wantInfos, infos); d != "" {
			t.Errorf("%s: tensors: %s", stem, d)
		}
		if d := cmp.Diff(wantData, data); d != "" {
			t.Errorf("%s: data: %s", stem, d)
		}
	}
}

// Open accepts what ggml's reader accepts, with the exceptions that the package comment states.
func TestVerdicts(t *testing.T) {
	differs := map[string]bool{"array of arrays": true, "bool 2": false, "data cut off": false}
	accepted := 0
	for _, v := range readVerdicts(t) {
		path := filepath.Join(t.TempDir(), "f.gguf")
		must(t, os.WriteFile(path, v.bytes(t), 0o666))
		want := v.Accepts
		if other, ok := differs[v.Name]; ok {
			if other == want {
				t.Errorf("%s: ggml's reader agrees", v.Name)
			}
			want = other
		}
		f, err := Open(path)
		if cut := strings.HasPrefix(v.Name, "cut at"); (err == nil) != (want && !cut) { // ggml's does not look at the data
			t.Errorf("%s: ggml accepts it: %v; here: %v", v.Name, v.Accepts, err)
		}
		if err == nil {
			accepted++
			walk(t, f)
			f.Close()
		} else if fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
	if accepted < 10 {
		t.Errorf("%d files are accepted", accepted)
	}
}

// Errors name key or tensor and the cause.
func TestMessages(t *testing.T) {
	want := map[string]string{
		"another magic":              `does not begin with "GGUF"; not a GGUF file?`,
		"version 0x1":                "is of GGUF version 1; versions 2 and 3 can be read",
		"version 0x3000000":          "is big-endian",
		"far too many keys":          "header: 4611686018427387904 keys exceed the file",
		"duplicate key":              `duplicate key "k"`,
		"value type 13":              `key "k": value type 13 is unknown`,
		"array longer than the file": `key "k": 2305843009213693952 elements of an array exceed the file`,
		"value cut off":              `key "k": the file ends inside it; truncated?`,
		"alignment 48":               `key "general.alignment": 48 is not a power of two`,
		"part of a block":            `tensor "t": shape [33]: rows of Q4_0 are multiples of 32`,
		"tensor type 4":              `tensor "t": type 4 is unknown`,
		"overlap":                    `tensor "u": offset 0, expected 32`,
		"data cut off":               `tensor "t": its data end at 96, the file at 95; truncated?`,
	}
	for _, v := range readVerdicts(t) {
		part, ok := want[v.Name]
		if !ok {
			continue
		}
		delete(want, v.Name)
		path := filepath.Join(t.TempDir(), "f.gguf")
		must(t, os.WriteFile(path, v.bytes(t), 0o666))
		if _, err := Open(path); !contains(err, path+": "+part) {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
	if len(want) > 0 {
		t.Errorf("not among the files: %v", want)
	}
}

func TestValues(t *testing.T) {
	f := open(t, "testdata/all.gguf")
	if v, err := Get[string](f, "general.architecture"); v != "test" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if v, err := Get[[]string](f, "l.string"); len(v) != 3 || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if _, err := Get[uint32](f, "a.uint64"); !contains(err, `key "a.uint64": the value is a uint64, expected a uint32`) {
		t.Error(err)
	}
	if _, err := Get[uint32](f, "none"); !contains(err, `key "none" is missing`) || fault.KindOf(err) != fault.Input {
		t.Error(err)
	}
	if n, err := f.Integer("a.uint16"); n != math.MaxUint16 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for key, part := range map[string]string{
		"a.int8": "-128 is out of range", "a.uint64": "18446744073709551615 is out of range", "a.string": "is a string, expected an integer", "none": "is missing",
	} {
		if _, err := f.Integer(key); !contains(err, part) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Rows are read singly and together; what is beyond them is refused.
func TestRows(t *testing.T) {
	f := open(t, "testdata/all.gguf")
	x, _ := f.Tensor("t.Q4_0")
	all := make([]float32, 64)
	must(t, x.Float32(all, 0))
	row := make([]float32, 32)
	must(t, x.Float32(row, 1))
	if d := cmp.Diff(all[32:], row); d != "" {
		t.Error(d)
	}
	for _, err := range []error{
		x.Float32(row, 2), x.Float32(all, 1), x.Float32(row, -1), x.Float32(row[:31], 0), x.ReadRows(make([]byte, 17), 0), x.ReadRows(make([]byte, 18), math.MaxInt),
	} {
		if !contains(err, `tensor "t.Q4_0" has 2 rows`) {
			t.Error(err)
		}
	}
	other, _ := f.Tensor("t.TQ1_0")
	if err := other.Float32(make([]float32, 256), 0); !contains(err, "TQ1_0 cannot be converted") {
		t.Error(err)
	}
}

// A file that is truncated while it is open gives an error.
func TestTruncatedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.gguf")
	must(t, os.WriteFile(path, read(t, "testdata/all.gguf"), 0o666))
	f := open(t, path)
	must(t, os.Truncate(path, 1000))
	x, _ := f.Tensor("t.I32")
	for _, err := range []error{x.ReadRows(make([]byte, 16), 0), f.Check()} {
		if fault.KindOf(err) != fault.Input || !contains(err, "while it was being read") {
			t.Error(err)
		}
	}
}

// FuzzOpen checks that a file is refused with one line, or can be read to the end and be written
// again, and that a second copy is the first.
func FuzzOpen(f *testing.F) {
	for _, stem := range stems {
		f.Add(read(f, filepath.Join("testdata", stem+".gguf")))
	}
	for _, v := range readVerdicts(f) {
		if !strings.HasPrefix(v.Name, "cut at") {
			f.Add(v.bytes(f))
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		must(t, os.WriteFile(path, file, 0o666))
		x, err := Open(path)
		if err != nil {
			if fault.KindOf(err) != fault.Input || strings.Contains(err.Error(), "\n") {
				t.Fatal(err)
			}
			return
		}
		defer x.Close()
		metadata, infos, data := walk(t, x)
		if a, err := alignmentOf(metadata); err != nil || a > 1<<12 {
			return // files of gigabytes
		}
		if _, _, err := FileSize(metadata, infos); err != nil {
			if !contains(err, "UTF-8") { // refused in new files only
				t.Fatal(err)
			}
			return
		}
		first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
		write(t, first, metadata, infos, data)
		again := open(t, first)
		metadata, infos, data = walk(t, again)
		write(t, second, metadata, infos, data)
		if d := difference(read(t, first), read(t, second)); d != "" {
			t.Error(d)
		}
	})
}
