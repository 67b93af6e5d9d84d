package infer

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/internal/fault"
	"afmq/internal/kernel"
	"afmq/pkg/safetensors"
)

// inputError fails unless err is about a file, in one line.
func inputError(t *testing.T, err error) {
	t.Helper()
	if fault.KindOf(err) != fault.Input || strings.ContainsAny(err.Error(), "\n\r") {
		t.Fatalf("%v: %q", fault.KindOf(err), err)
	}
}

// FuzzAdapterWeights checks that the weights of an adapter are refused, or are those of
// every module that its configuration names, in its shapes and finite.
func FuzzAdapterWeights(f *testing.F) {
	cfg := &Config{HiddenSize: 4, IntermediateSize: 6, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, VocabSize: 8}
	a := &Adapter{Dir: f.TempDir(), Base: strings.Repeat("0f", 32), Data: []string{"x"},
		Config: AdapterConfig{Rank: 2, Alpha: 2, Modules: []string{"model.layers.0.mlp.up_proj"}}}
	weights := map[string]AdapterWeights{a.Config.Modules[0]: {make([]float32, 2*4), make([]float32, 6*2)}}
	for _, dtype := range []safetensors.DType{safetensors.F16, safetensors.F32} {
		if err := WriteAdapter(a, cfg, dtype, weights, writeFileAt); err != nil {
			f.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(a.Dir, AdapterWeightsFile))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(bytes.Replace(data, []byte(`[2,4]`), []byte(`[4,2]`), 1))
		f.Add(append(data[:len(data)-4:len(data)-4], 0xff, 0xff, 0xff, 0xff))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(a.Dir, AdapterWeightsFile), data, 0o666); err != nil {
			t.Fatal(err)
		}
		got, err := ReadAdapter(a.Dir, cfg)
		if err != nil {
			inputError(t, err)
			return
		}
		l := got.Modules[a.Config.Modules[0]]
		if len(got.Modules) != 1 || l == nil || l.Rank() != 2 || l.A.Cols() != 4 || l.B.Rows() != 6 {
			t.Fatalf("%+v", got.Modules)
		}
	})
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
	for _, packed := range []bool{false, true} {
		var infos []safetensors.Info
		for _, spec := range cfg.Tensors() {
			if !packed || len(spec.Shape) == 1 {
				infos = append(infos, safetensors.Info{Name: spec.Name, DType: safetensors.BF16, Shape: spec.Shape})
				continue
			}
			rows, cols := spec.Shape[0], spec.Shape[1]
			if spec.Role == Embedding {
				infos = append(infos, safetensors.Info{Name: spec.Name + SuffixInt8, DType: safetensors.I8, Shape: spec.Shape},
					safetensors.Info{Name: spec.Name + SuffixScale, DType: safetensors.F32, Shape: []int{rows}})
				continue
			}
			infos = append(infos, safetensors.Info{Name: spec.Name + SuffixIndices, DType: safetensors.U8, Shape: []int{rows, cols / 4}},
				safetensors.Info{Name: spec.Name + SuffixLUT, DType: safetensors.F16, Shape: []int{rows / 4, 4}},
				safetensors.Info{Name: spec.Name + SuffixRowScale, DType: safetensors.F16, Shape: []int{rows}})
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
	pool := kernel.NewPool(1)
	f.Cleanup(pool.Close)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		m, err := OpenWeights(dir, pool)
		if err != nil {
			inputError(t, err)
			return
		}
		r := m.NewRunner(pool)
		r.Forward([]Segment{{Cache: m.NewCache(4), Tokens: []int32{0, 3, 1}}})
	})
}

// FuzzGenerationConfig checks that a generation_config.json is refused, or names tokens of
// the vocabulary.
func FuzzGenerationConfig(f *testing.F) {
	for _, s := range []string{`{"eos_token_id": 2}`, `{"eos_token_id": [1, 2]}`, `{"eos_token_id": -1}`, `{"eos_token_id": 1e9}`, `[]`,
		`{"eos_token_id": 1, "eos_token_id": 2}`, `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}"} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	config, err := os.ReadFile(filepath.Join(adapterModel, "config.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), data, 0o666); err != nil {
			t.Fatal(err)
		}
		c, err := LoadConfig(dir)
		if err != nil {
			inputError(t, err)
			return
		}
		if slices.ContainsFunc(c.EOS, func(id int32) bool { return id < 0 || int(id) >= c.VocabSize }) {
			t.Fatalf("end-of-sequence tokens %v of %d", c.EOS, c.VocabSize)
		}
	})
}

// FuzzSameTokenizer checks that a tokenizer is itself, whatever its file holds.
func FuzzSameTokenizer(f *testing.F) {
	f.Add([]byte(`{"model":{"vocab":{"a":1}},"truncation":null}`))
	f.Add([]byte(`{"n":` + strings.Repeat("9", 400) + `}`))
	f.Add([]byte(`[]`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), data, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := SameTokenizer(dir, dir); err != nil {
			inputError(t, err)
		}
	})
}

// A weight that is no number is refused by name when the model is opened.
func TestNotFinite(t *testing.T) {
	pool := kernel.NewPool(2)
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
		_, err = OpenWeights(dir, pool)
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v", bits, err)
		}
	}
}
