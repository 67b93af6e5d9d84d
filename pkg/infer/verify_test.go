package infer

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// plainArtifact writes an artifact that keeps every tensor of the embedded checkpoint as it
// is, and returns its directory and manifest.
func plainArtifact(t *testing.T) (string, *artifact.Manifest) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tinyModel)); err != nil {
		t.Fatal(err)
	}
	src, err := artifact.OpenSource(bg, tinyModel)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	m := &artifact.Manifest{ToolVersion: "test", Arithmetic: "f32", Tokenizer: src.TokenizerDigest(), Files: src.Copies}
	m.Plan = artifact.QuantizationRecord{Bits: 4, GroupRows: 16, Compensation: artifact.NoCompensation}
	var exceptions []artifact.ModuleBits
	var layout []artifact.StoredTensor
	for _, x := range src.Tensors {
		d, err := artifact.DigestTensor(bg, x.Tensor)
		if err != nil {
			t.Fatal(err)
		}
		m.Tensors = append(m.Tensors, d)
		st := artifact.StoredTensor{Spec: x.Spec, Form: artifact.Plain, Bits: 16, Bytes: int64(len(x.Tensor.Bytes())), Names: []string{d.Name}}
		layout = append(layout, st)
		if len(x.Spec.Shape) == 2 {
			m.Plan.Modules = append(m.Plan.Modules, artifact.NewModuleRecord(&st, 0))
			exceptions = append(exceptions, artifact.ModuleBits{Name: x.Spec.Module(), Bits: artifact.KeepBits})
		}
	}
	config, err := artifact.EncodeConfig(src.RawConfig, 4, 16, exceptions)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(artifact.ConfigFile, config)
	sum := sha256.Sum256(src.RawConfig)
	m.Source = artifact.NewSourceDigest(hex.EncodeToString(sum[:]), append([]artifact.TensorDigest(nil), m.Tensors...))
	m.BPW = artifact.MeasureBits(layout)
	for _, name := range []string{artifact.ConfigFile, artifact.WeightsFile} {
		d, err := artifact.HashFile(bg, filepath.Join(dir, name), name, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.Files = append(m.Files, d)
	}
	if m.Ledger, err = artifact.NewLedger(m.Tensors, m.Files[len(m.Files)-1].Bytes); err != nil {
		t.Fatal(err)
	}
	data, digest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	write(artifact.ManifestFile, data)
	write(artifact.ManifestDigestFile, digest)
	return dir, m
}

// Open finds a change of the weights, or of a file that decides how they are used, that the
// form of the files does not show. With SkipVerify, the model opens.
func TestOpenVerifies(t *testing.T) {
	pool := newPool(t, 2)
	dir, manifest := plainArtifact(t)
	if _, err := artifact.Verify(bg, dir, artifact.VerifyOptions{Pool: pool}); err != nil {
		t.Fatal(err)
	}
	m, err := Open(bg, dir, OpenOptions{Pool: pool})
	if err != nil || !m.Verified || m.Manifest == nil || m.Manifest.ContentHash != manifest.ContentHash {
		t.Fatalf("%v, %v", m, err)
	}
	f, err := safetensors.Open(filepath.Join(dir, artifact.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	header := int(f.HeaderBytes())
	f.Close()
	weights := func(edit func(data []byte)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) { editFile(t, filepath.Join(dir, artifact.WeightsFile), edit) }
	}
	replace := func(name, old, new string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, name), func(data []byte) {
				i := strings.Index(string(data), old)
				if i < 0 || len(old) != len(new) {
					t.Fatalf("%s has no %q", name, old)
				}
				copy(data[i:], new)
			})
		}
	}
	for name, tt := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string
	}{
		"first bit of the data": {weights(func(data []byte) { data[header] ^= 1 }), "does not match manifest.json: SHA-256 is"},
		"last bit of the data":  {weights(func(data []byte) { data[len(data)-2] ^= 1 }), "does not match manifest.json: SHA-256 is"},
		"config":                {replace("config.json", `"rope_theta": 500000.0`, `"rope_theta": 600000.0`), "config.json: does not match manifest.json"},
		"tokenizer": {func(t *testing.T, dir string) {
			f, err := os.OpenFile(filepath.Join(dir, "tokenizer.json"), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("\n")
			}
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}, "tokenizer.json: does not match manifest.json"},
		"no generation config": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "generation_config.json")); err != nil {
				t.Fatal(err)
			}
		}, "generation_config.json: "},
		"generation config": {func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(`{"eos_token_id": 5}`), 0o666); err != nil {
				t.Fatal(err)
			}
		}, "generation_config.json: "},
	} {
		t.Run(name, func(t *testing.T) {
			damaged := t.TempDir()
			if err := os.CopyFS(damaged, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			tt.damage(t, damaged)
			if m, err := Open(bg, damaged, OpenOptions{SkipVerify: true, Pool: pool}); err != nil || m.Verified {
				t.Errorf("with SkipVerify: %v, %v", m, err)
			}
			_, err := Open(bg, damaged, OpenOptions{Pool: pool})
			if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
	// A manifest of another artifact, consistent in itself.
	for i := range manifest.Tensors {
		manifest.Tensors[i].Name = strings.Replace(manifest.Tensors[i].Name, "layers.0.mlp.up_proj", "layers.0.mlp.UP_proj", 1)
	}
	data, digest, err := manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{artifact.ManifestFile: data, artifact.ManifestDigestFile: digest} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(bg, dir, OpenOptions{Pool: pool}); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "UP_proj") {
		t.Errorf("a tensor of another name: %v", err)
	}
}

func editFile(t *testing.T, path string, edit func(data []byte)) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edit(data)
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// An adapter is bound to the artifact by the content hash of the manifest that the weights
// were verified with.
func TestOpenAdapterBase(t *testing.T) {
	pool := newPool(t, 1)
	dir, manifest := plainArtifact(t)
	m, err := Open(bg, dir, OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	checkpoint := openTiny(t, pool)
	own := writeAdapter(t, m.Config, manifest.ContentHash)
	other := writeAdapter(t, m.Config, strings.Repeat("0", 64))
	unbound := writeAdapter(t, m.Config, "")
	for _, tt := range []struct {
		name         string
		model        *Model
		adapter      string
		allowUnbound bool
		want         string // of the error; empty for none
	}{
		{"own", m, own, false, ""},
		{"another base", m, other, true, "was trained on another artifact"},
		{"no base", m, unbound, false, "does not name the artifact"},
		{"no base, allowed", m, unbound, true, ""},
		{"checkpoint", checkpoint, own, false, "is a plain checkpoint"},
		{"checkpoint, allowed", checkpoint, own, true, ""},
	} {
		_, err := tt.model.OpenAdapter(tt.adapter, tt.allowUnbound)
		if (err == nil) != (tt.want == "") || err != nil && (fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// writeAdapter writes an adapter of rank 1 that changes nothing, with this content hash as
// its base.
func writeAdapter(t *testing.T, cfg *model.Config, base string) string {
	t.Helper()
	a := &adapter.Adapter{Dir: t.TempDir(), Base: base, Config: adapter.Config{Rank: 1, Alpha: 1}, Modules: map[string]adapter.Weights{}}
	for _, spec := range cfg.Tensors() {
		if spec.Role == model.Projection {
			a.Config.Modules = append(a.Config.Modules, spec.Module())
			a.Modules[spec.Module()] = adapter.Weights{A: make([]float32, spec.Shape[1]), B: make([]float32, spec.Shape[0])}
		}
	}
	write := func(path string, data []byte) error { return os.WriteFile(path, data, 0o666) }
	if err := adapter.Write(a, cfg, safetensors.F16, write); err != nil {
		t.Fatal(err)
	}
	return a.Dir
}
