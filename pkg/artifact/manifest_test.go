package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

func sum(s string) string {
	d := sha256.Sum256([]byte(s))
	return hex.EncodeToString(d[:])
}

// smallManifest is valid: one palettized matrix [16, 4], one int8 matrix [8, 4],
// one norm [4].
func smallManifest() *Manifest {
	tensors := []TensorDigest{
		{"p.weight.indices", "U8", []int{16, 2}, sum("indices")},
		{"p.weight.lut", "F16", []int{1, 16}, sum("lut")},
		{"e.weight.q", "I8", []int{8, 4}, sum("q")},
		{"e.weight.scale", "F32", []int{8}, sum("scale")},
		{"norm.weight", "F16", []int{4}, sum("norm")},
	}
	const fileBytes = 32 + 32 + 32 + 32 + 8 + 500
	ledger, err := NewLedger(tensors, fileBytes)
	if err != nil {
		panic(err)
	}
	return &Manifest{
		ToolVersion: "test", Arithmetic: "f32", Tokenizer: sum("tokenizer"),
		Source: NewSourceDigest(sum("config"), []TensorDigest{{"p.weight", "F16", []int{16, 4}, sum("p")}, {"e.weight", "F16", []int{8, 4}, sum("e")}}),
		Plan: QuantizationRecord{Bits: 4, GroupRows: 16, Modules: []ModuleRecord{
			{Name: "e", Form: RowInt8, Bits: 8, Bytes: 64, RelError: 0.01}, {Name: "p", Form: Palette, Bits: 4, Bytes: 64, RelError: 0.1},
		}},
		BPW:     BitsPerWeight{Projections: 8, Model: 10.88},
		Ledger:  ledger,
		Files:   []FileDigest{{"model.safetensors", fileBytes, sum("file")}, {"config.json", 7, sum("c")}},
		Tensors: tensors,
	}
}

func encode(t testing.TB, m *Manifest) []byte {
	t.Helper()
	data, _, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The expected digest was computed with Python's hashlib from the byte string
// that ContentHash documents.
func TestContentHash(t *testing.T) {
	d := []TensorDigest{
		{"c", "F32", []int{}, sum("")},
		{"b", "F16", []int{1}, sum("BB")},
		{"a.weight", "U8", []int{2, 2}, sum("AAAA")},
	}
	const want = "f612b3c1127efddaff1b998ca3f8fe7b4cf321a262926e67b25ca8c3ed46dde5"
	if got := ContentHash(d); got != want {
		t.Errorf("ContentHash = %s, want %s", got, want)
	}
	if d[0].Name != "c" {
		t.Error("ContentHash reordered its argument")
	}
	for i, change := range []func(*TensorDigest){
		func(x *TensorDigest) { x.Name += "x" },
		func(x *TensorDigest) { x.DType = "I8" },
		func(x *TensorDigest) { x.Shape = []int{4, 1} },
		func(x *TensorDigest) { x.SHA256 = sum("AAAB") },
	} {
		c := append([]TensorDigest(nil), d...)
		change(&c[2])
		if ContentHash(c) == want {
			t.Errorf("change %d does not change the content hash", i)
		}
	}
}

func TestManifestRoundTrip(t *testing.T) {
	m := smallManifest()
	data := encode(t, m)
	got, err := ParseManifest("manifest.json", data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
	for _, key := range []string{`"calibration": null`, `"with_adapter": null`} {
		if !bytes.Contains(data, []byte(key)) {
			t.Errorf("%s is not in the manifest", key)
		}
	}
	if again := encode(t, smallManifest()); !bytes.Equal(again, data) {
		t.Error("the same manifest gives other bytes the second time")
	}
}

func TestManifestRefuses(t *testing.T) {
	good := string(encode(t, smallManifest()))
	swap := func(old, new string) string {
		if strings.Count(good, old) == 0 {
			t.Fatalf("%q is not in the manifest", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "not valid JSON"},
		{"cut", good[:len(good)/2], "not valid JSON"},
		{"more", good + "{}", "trailing data"},
		{"array", "[]", "not a manifest"},
		{"null", "null", "schema"},
		{"deep", strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested deeper"},
		{"not UTF-8", swap("test", "te\xffst"), "UTF-8"},
		{"other version", swap("afmq.manifest/v1", "afmq.manifest/v2"), "afmq.manifest/v2"},
		{"unknown key", swap(`"seed"`, `"sead"`), "sead"},
		{"other case", swap(`"seed"`, `"Seed"`), "Seed"},
		{"twice", swap(`"seed": 0`, `"seed": 0, "seed": 1`), `duplicate key "seed"`},
		{"twice, nested", swap(`"bits": 4`, `"bits": 4, "bits": 4`), `duplicate key "bits"`},
		{"no tool", swap(`"test"`, `""`), "tool_version"},
		{"upper digest", swap(sum("tokenizer"), strings.ToUpper(sum("tokenizer"))), "tokenizer"},
		{"short digest", swap(sum("tokenizer"), sum("tokenizer")[1:]), "tokenizer"},
		{"tensor digest", swap(sum("lut"), sum("LUT")), "content_hash"},
		{"source digest", swap(sum("config"), sum("CONFIG")), "source.digest"},
		{"tensor type", swap(`"I8"`, `"I9"`), "I9"},
		{"negative extent", swap("\"shape\": [\n    8,\n    4", "\"shape\": [\n    -8,\n    -4"), "negative extent"},
		{"huge extent", swap("\"shape\": [\n    8,\n    4", "\"shape\": [\n    4611686018427387904,\n    4"), "too large"},
		{"extent beyond int64", swap("\"shape\": [\n    8,\n    4", "\"shape\": [\n    99999999999999999999,\n    4"), "not a manifest"},
		{"fraction", swap("\"shape\": [\n    8,\n    4", "\"shape\": [\n    8.5,\n    4"), "not a manifest"},
		{"tensor twice", swap(`"p.weight.lut"`, `"p.weight.indices"`), "duplicate"},
		{"tensor name", swap(`"norm.weight"`, `"norm\u0000weight"`), "control"},
		{"file path", swap(`"config.json"`, `"../config.json"`), "plain file name"},
		{"file is the manifest", swap(`"config.json"`, `"manifest.json"`), "list itself"},
		{"file size", swap(`"bytes": 7`, `"bytes": -7`), "negative size"},
		{"no weights", swap(`"model.safetensors"`, `"nodel.safetensors"`), "model.safetensors"},
		{"ledger", swap(`"indices": 32`, `"indices": 33`), "ledger"},
		{"ledger total", swap(`"total": 636`, `"total": 637`), "ledger"},
		{"bpw", swap(`"model": 10.88`, `"model": -1`), "bpw"},
		{"bits", swap(`"bits": 4`, `"bits": 9`), "bits"},
		{"choice", swap(`"group_rows": 16`, `"choice": {"by": "dice"}, "group_rows": 16`), "plan.choice.by"},
		{"group", swap(`"group_rows": 16`, `"group_rows": 0`), "group_rows"},
		{"a grid without such a module", swap(`"group_rows": 16`, `"grid": "gguf", "group_rows": 16`), `form "int8_row"; plan.grid is "gguf"`},
		{"a module in blocks", swap("\"int8_row\",\n    \"bits\": 8", "\"q8_0\",\n    \"bits\": 8"), `form "q8_0"; plan.grid is ""`},
		{"unknown grid", swap(`"group_rows": 16`, `"grid": "q5_k", "group_rows": 16`), "plan.grid"},
		{"form", swap(`"int8_row"`, `"int9_row"`), "int9_row"},
		{"module twice", swap(`"name": "e"`, `"name": "p"`), "duplicate"},
		{"negative error", swap(`"rel_error": 0.1`, `"rel_error": -0.1`), "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseManifest("m.json", []byte(c.text))
			if err == nil {
				t.Fatal("accepted")
			}
			if fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), "m.json: ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v: not one line of bad input that names the file", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: does not mention %q", err, c.want)
			}
		})
	}
}

func TestReadManifest(t *testing.T) {
	dir := t.TempDir()
	data, digest, err := smallManifest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string) {
		t.Helper()
		_, err := ReadManifest(dir)
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want bad input about %q", err, want)
		}
	}
	refused("is not an artifact: it has no manifest.json")
	write(ManifestFile, data)
	refused("manifest.sha256: is missing")
	write(ManifestDigestFile, digest)
	if _, err := ReadManifest(dir); err != nil {
		t.Error(err)
	}
	if string(digest) != sum(string(data))+"\n" {
		t.Errorf("manifest.sha256 is %q", digest)
	}
	for i := range digest {
		c := bytes.Clone(digest)
		c[i] ^= 1
		write(ManifestDigestFile, c)
		refused("manifest.sha256")
	}
	write(ManifestDigestFile, append(digest, '\n'))
	refused("manifest.sha256")
	write(ManifestDigestFile, digest)
	write(ManifestFile, append(data, ' '))
	refused("manifest.sha256")
}

func FuzzParseManifest(f *testing.F) {
	good := encode(f, smallManifest())
	f.Add(good)
	f.Add(good[:100])
	f.Add([]byte(`{"schema":"afmq.manifest/v1"}`))
	f.Add([]byte(`{"schema":"afmq.manifest/v1","tensors":[{"name":"a","dtype":"F64","shape":[9223372036854775807,2]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest("m", data)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatalf("%v is not bad input", err)
			}
			return
		}
		again, err := ParseManifest("m", encode(t, m))
		if err != nil {
			t.Fatalf("what was accepted is not accepted when written again: %v", err)
		}
		if d := cmp.Diff(m, again); d != "" {
			t.Fatalf("written and read again:\n%s", d)
		}
	})
}

func TestLedger(t *testing.T) {
	m := smallManifest()
	want := Ledger{Indices: 32, LUT: 32, Embedding: 64, Other: 8, Container: 500, Total: 636}
	if m.Ledger != want {
		t.Errorf("ledger %+v, want %+v", m.Ledger, want)
	}
	l, err := NewLedger([]TensorDigest{{"a.weight.row_scale", "F16", []int{3}, ""}, {"b.bias", "F32", []int{0, 5}, ""}}, 6)
	if want := (Ledger{RowScale: 6, Total: 6}); err != nil || l != want {
		t.Errorf("ledger %+v, %v, want %+v", l, err, want)
	}
	for _, bad := range [][]TensorDigest{
		{{"a", "U8", []int{7}, ""}},
		{{"a", "F64", []int{math.MaxInt}, ""}},
		{{"a", "F64", []int{math.MaxInt, math.MaxInt}, ""}},
		{{"a", "U8", []int{math.MaxInt}, ""}, {"b", "U8", []int{math.MaxInt}, ""}},
		{{"a", "U8", []int{-1}, ""}},
		{{"a", "Q4", []int{1}, ""}},
		{{"a", "U8", make([]int, 9), ""}},
	} {
		if l, err := NewLedger(bad, 6); err == nil {
			t.Errorf("%v: accepted as %+v", bad, l)
		}
	}
}
