package infer

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// inputError fails unless err is about a file, in one line.
func inputError(t *testing.T, err error) {
	t.Helper()
	if fault.KindOf(err) != fault.Input || strings.ContainsAny(err.Error(), "\n\r") {
		t.Fatalf("%v: %q", fault.KindOf(err), err)
	}
}

// FuzzOpenWeights checks that the tensors of a checkpoint, dense or compressed, are refused,
// or make a model whose logits are numbers or said not to be.
func FuzzOpenWeights(f *testing.F) {
	const config = `{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 8,
		"num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 4, "rms_norm_eps": 1e-6, "rope_theta": 10000,
		"max_position_embeddings": 8, "hidden_act": "silu", "tie_word_embeddings": true,
		"quantization_config": {"quant_method": "afmq", "version": 1, "bits": 2, "group_rows": 4, "modules": {}}}`
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o666); err != nil {
		f.Fatal(err)
	}
	cfg := loadConfig(f, dir)
	path := filepath.Join(dir, "model.safetensors")
	for _, form := range []artifact.Form{artifact.Plain, artifact.RowInt8, artifact.Palette} { // of the embedding
		var infos []safetensors.Info
		for _, spec := range cfg.Tensors() {
			if form == artifact.Plain || len(spec.Shape) == 1 {
				infos = append(infos, safetensors.Info{Name: spec.Name, DType: safetensors.BF16, Shape: spec.Shape})
				continue
			}
			rows, cols := spec.Shape[0], spec.Shape[1]
			if spec.Role == model.Embedding && form == artifact.RowInt8 {
				infos = append(infos, safetensors.Info{Name: spec.Name + artifact.SuffixInt8, DType: safetensors.I8, Shape: spec.Shape},
					safetensors.Info{Name: spec.Name + artifact.SuffixScale, DType: safetensors.F32, Shape: []int{rows}})
				continue
			}
			infos = append(infos, safetensors.Info{Name: spec.Name + artifact.SuffixIndices, DType: safetensors.U8, Shape: []int{rows, cols / 4}},
				safetensors.Info{Name: spec.Name + artifact.SuffixLUT, DType: safetensors.F16, Shape: []int{rows / 4, 4}},
				safetensors.Info{Name: spec.Name + artifact.SuffixRowScale, DType: safetensors.F16, Shape: []int{rows}})
		}
		w, err := safetensors.Create(path, infos, nil)
		if err != nil {
			f.Fatal(err)
		}
		for _, info := range infos {
			n, err := info.Bytes()
			if err == nil {
				err = w.Write(info.Name, bytes.Repeat([]byte{0x3c}, int(n)))
			}
			if err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	pool := compute.NewPool(1)
	f.Cleanup(pool.Close)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		m, err := OpenWeights(bg, dir, OpenOptions{Pool: pool})
		if err != nil {
			inputError(t, err)
			return
		}
		r := m.NewRunner(pool)
		r.Forward([]Segment{{Cache: m.NewCache(4), Tokens: []int32{0, 3, 1}}})
	})
}

// A weight that is not a number is refused by name when the model is opened.
func TestNotFinite(t *testing.T) {
	pool := compute.NewPool(2)
	defer pool.Close()
	for _, bits := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(adapterModel)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "model.safetensors")
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		name := "model.layers.0.mlp.up_proj.weight"
		x, ok := f.Tensor(name)
		if !ok {
			t.Fatal("no " + name)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(data, x.Bytes()) + len(x.Bytes()) - x.DType.Size()
		value := map[safetensors.DType][]byte{safetensors.F16: {0, 0x7e}, safetensors.BF16: {0xc0, 0x7f}, safetensors.F32: {0, 0, 0xc0, 0x7f}}[x.DType]
		if bits < 0 {
			value = map[safetensors.DType][]byte{safetensors.F16: {0, 0xfc}, safetensors.BF16: {0x80, 0xff}, safetensors.F32: {0, 0, 0x80, 0xff}}[x.DType]
		}
		copy(data[at:], value)
		f.Close()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		_, err = OpenWeights(bg, dir, OpenOptions{Pool: pool})
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v", bits, err)
		}
	}
}
