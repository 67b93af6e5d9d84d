package quantize

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// smallArtifact returns an artifact small enough to change each of its bytes, with palettes of
// two widths, int8 rows, kept matrices, norms and biases.
func smallArtifact(t *testing.T) string {
	t.Helper()
	out, _ := run(t, newPool(t, 2), Options{
		Model: newSynthetic(safetensors.F16, true).write(t, 1), Overrides: []sensitivity.Override{{Pattern: "down_proj", Bits: 2}, {Pattern: "v_proj", Bits: 16}}, NoRowScale: true,
	})
	return out
}

// A flipped bit is found wherever it is: in every byte of the header of model.safetensors
// and of manifest.sha256, at 150 places in every other file and in the tensors' data, and
// in the first and the last byte of each.
func TestVerifyFindsFlippedBits(t *testing.T) {
	dir := smallArtifact(t)
	pool := newPool(t, 1)
	if _, err := artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool}); err != nil {
		t.Fatal(err)
	}
	for name, text := range contents(t, dir) {
		if name == artifact.CardFile { // may be edited
			continue
		}
		data := []byte(text)
		path := filepath.Join(dir, name)
		header := 0
		if name == artifact.WeightsFile {
			header = 8 + int(binary.LittleEndian.Uint64(data))
		}
		step := max(1, (len(data)-header)/150)
		for i := 0; i < len(data); {
			data[i] ^= 1 << (i % 8)
			writeFile(t, path, data)
			_, err := artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool})
			if fault.KindOf(err) != fault.Input {
				t.Errorf("%s: byte %d of %d changed: %v", name, i, len(data), err)
			}
			data[i] ^= 1 << (i % 8)
			switch last := len(data) - 1; {
			case i < header || i == last:
				i++
			default:
				i = min(i+step, last)
			}
		}
		writeFile(t, path, data)
	}
	if _, err := artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool}); err != nil {
		t.Fatal(err)
	}
}

// The error for a change in a tensor's data names the tensor.
func TestVerifyNamesTheTensor(t *testing.T) {
	dir := smallArtifact(t)
	path := filepath.Join(dir, artifact.WeightsFile)
	data := readFile(t, path)
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	offset := map[string]int{}
	at := int(f.HeaderBytes())
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		offset[name] = at
		at += len(x.Bytes())
	}
	f.Close()
	pool := newPool(t, 2)
	for name, at := range offset {
		data[at] ^= 1
		writeFile(t, path, data)
		_, err := artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool})
		wantFault(t, err, fault.Input, artifact.WeightsFile, `"`+name+`"`, "SHA-256")
		data[at] ^= 1
	}
}

func TestVerifyFindsMissingAndExtraFiles(t *testing.T) {
	dir := smallArtifact(t)
	pool := newPool(t, 1)
	for name, data := range contents(t, dir) {
		path := filepath.Join(dir, name)
		if name == artifact.CardFile { // may be edited, or be missing
			continue
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		_, err := artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool})
		wantFault(t, err, fault.Input, name)
		writeFile(t, path, []byte(data+"\n"))
		_, err = artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool})
		wantFault(t, err, fault.Input, name)
		writeFile(t, path, []byte(data))
	}
	extra := filepath.Join(dir, ".extra")
	writeFile(t, extra, nil)
	_, err := artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool})
	wantFault(t, err, fault.Input, ".extra", "does not list")
	os.Remove(extra)
	if err := os.Mkdir(extra, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool})
	wantFault(t, err, fault.Input, ".extra", "directory")
	os.Remove(extra)
	_, err = artifact.Verify(bg, filepath.Join(dir, "none"), artifact.VerifyOptions{Pool: pool})
	wantFault(t, err, fault.Input, "none", "does not exist")
	if _, err := artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool}); err != nil {
		t.Error(err)
	}
}

// The files of an artifact may be symbolic links, as hub caches make them.
func TestVerifyFollowsLinks(t *testing.T) {
	dir := smallArtifact(t)
	linked := t.TempDir()
	for name := range contents(t, dir) {
		if err := os.Symlink(filepath.Join(dir, name), filepath.Join(linked, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := artifact.Verify(bg, linked, artifact.VerifyOptions{Pool: newPool(t, 1)}); err != nil {
		t.Error(err)
	}
}

// A rewritten manifest with matching digests is still compared with the tensors.
func TestVerifyDerivesAgain(t *testing.T) {
	dir := smallArtifact(t)
	pool := newPool(t, 1)
	path := filepath.Join(dir, artifact.ManifestFile)
	good := readFile(t, path)
	for _, c := range []struct {
		name   string
		change func(m *artifact.Manifest)
		part   string
	}{
		{"bpw", func(m *artifact.Manifest) { m.BPW.Projections /= 2 }, "bpw"},
		{"model bpw", func(m *artifact.Manifest) { m.BPW.Model++ }, "bpw"},
		{"bytes", func(m *artifact.Manifest) { m.Plan.Modules[3].Bytes++ }, "plan says"},
		{"bits", func(m *artifact.Manifest) { m.Plan.Modules[1].Bits = 3 }, "plan says"},
		{"module", func(m *artifact.Manifest) { m.Plan.Modules = m.Plan.Modules[:4] }, "does not list"},
		{"default", func(m *artifact.Manifest) { m.Plan.Bits = 5 }, "config.json"},
		{"tokenizer", func(m *artifact.Manifest) { m.Tokenizer = infile.SHA256(nil) }, "tokenizer"},
		{"tensor", func(m *artifact.Manifest) { m.Tensors[2].SHA256 = infile.SHA256(nil) }, "SHA-256"},
		{"file", func(m *artifact.Manifest) { m.Files[0].SHA256 = infile.SHA256(nil) }, "SHA-256"},
		{"shape", func(m *artifact.Manifest) {
			for i := range m.Tensors {
				if s := m.Tensors[i].Shape; len(s) == 2 && s[0] != s[1] {
					s[0], s[1] = s[1], s[0]
					return
				}
			}
		}, "shape"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := artifact.ParseManifest(path, good)
			if err != nil {
				t.Fatal(err)
			}
			c.change(m)
			data, sum, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, data)
			writeFile(t, filepath.Join(dir, artifact.ManifestDigestFile), sum)
			_, err = artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool})
			wantFault(t, err, fault.Input, c.part)
		})
	}
}

func TestVerifyStops(t *testing.T) {
	dir := smallArtifact(t)
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := artifact.Verify(ctx, dir, artifact.VerifyOptions{Pool: newPool(t, 1)}); !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Unexpected {
		t.Errorf("cancelled: %v", err)
	}
}

// reseal recomputes the digests of a changed artifact.
func reseal(t *testing.T, dir string) {
	t.Helper()
	m, err := artifact.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(filepath.Join(dir, artifact.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range m.Tensors {
		x, _ := f.Tensor(m.Tensors[i].Name)
		m.Tensors[i].SHA256 = infile.SHA256(x.Bytes())
	}
	for i := range m.Files {
		data := readFile(t, filepath.Join(dir, m.Files[i].Name))
		m.Files[i].SHA256, m.Files[i].Bytes = infile.SHA256(data), int64(len(data))
	}
	data, sum, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, artifact.ManifestFile), data)
	writeFile(t, filepath.Join(dir, artifact.ManifestDigestFile), sum)
}

// Invalid values, and a config that contradicts the tensors, are errors even if the digests
// match.
func TestVerifyFindsIllegalContent(t *testing.T) {
	const v0, up = "model.layers.0.self_attn.v_proj", "model.layers.0.mlp.up_proj.weight"
	poke := func(name string, at int, value ...byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, artifact.WeightsFile)
			data := readFile(t, path)
			f, err := safetensors.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			offset := int(f.HeaderBytes())
			for _, n := range f.Names() {
				x, _ := f.Tensor(n)
				if n == name {
					copy(data[offset+at:], value)
				}
				offset += len(x.Bytes())
			}
			writeFile(t, path, data)
		}
	}
	config := func(old, new string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, artifact.ConfigFile)
			text := string(readFile(t, path))
			if !strings.Contains(text, old) {
				t.Fatalf("%q is not in config.json", old)
			}
			writeFile(t, path, []byte(strings.Replace(text, old, new, 1)))
		}
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		parts  []string
	}{
		{"nothing", func(*testing.T, string) {}, nil},
		{"LUT entry NaN", poke(up+".lut", 4, 1, 0x7c), []string{up, "NaN"}},
		{"LUT entry Inf", poke(up+".lut", 4, 0, 0xfc), []string{up, "Inf"}},
		{"LUT descending", poke(up+".lut", 2, 0, 0xfb), []string{up, "table 0 does not ascend"}},
		{"int8 -128", poke("model.embed_tokens.weight.q", 9, 0x80), []string{"model.embed_tokens.weight", "-128 at index 9"}},
		{"scale NaN", poke("lm_head.weight.scale", 8, 0, 0, 0xc0, 0x7f), []string{"lm_head.weight", "NaN at index 2"}},
		{"scale Inf", poke("lm_head.weight.scale", 8, 0, 0, 0x80, 0x7f), []string{"lm_head.weight", "Inf at index 2"}},
		{"scale negative", poke("lm_head.weight.scale", 8, 0, 0, 0x80, 0xbf), []string{"lm_head.weight", "-1 at index 2"}},
		{"norm NaN", poke("model.norm.weight", 2, 1, 0x7c), []string{"model.norm.weight", "NaN at index 1"}},
		{"other default", config(`"bits": 4`, `"bits": 5`), []string{"config.json", "5 bits"}},
		{"other group", config(`"group_rows": 16`, `"group_rows": 24`), []string{"config.json", "24 rows"}},
		{"other exception", config(`"bits": 2`, `"bits": 3`), []string{"config.json", "down_proj"}},
		{"one exception less", config(`"`+v0+`": {
        "bits": 16
      },`, ""), []string{"config.json", v0}},
		{"one exception more", config(`"modules": {`, `"modules": {"model.layers.0.self_attn.o_proj": {"bits": 4},`), []string{"config.json", "exceptions"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := smallArtifact(t)
			c.change(t, dir)
			reseal(t, dir)
			_, err := artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: newPool(t, 2)})
			if c.parts == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantFault(t, err, fault.Input, c.parts...)
		})
	}
}
