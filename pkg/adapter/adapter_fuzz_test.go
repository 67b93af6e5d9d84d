package adapter

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

// FuzzAdapterWeights checks that the weights of an adapter are refused, or are those of
// every module that its configuration names, in its shapes and finite.
func FuzzAdapterWeights(f *testing.F) {
	cfg := &model.Config{HiddenSize: 4, IntermediateSize: 6, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, VocabSize: 8}
	a := &Adapter{Dir: f.TempDir(), Base: strings.Repeat("0f", 32), Data: []string{"x"},
		Config: Config{Rank: 2, Alpha: 2, Modules: []string{"model.layers.0.mlp.up_proj"}}}
	a.Modules = map[string]Weights{a.Config.Modules[0]: {A: make([]float32, 2*4), B: make([]float32, 6*2)}}
	for _, dtype := range []safetensors.DType{safetensors.F16, safetensors.F32} {
		if err := Write(a, cfg, dtype, writeFileAt); err != nil {
			f.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(a.Dir, WeightsFile))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(bytes.Replace(data, []byte(`[2,4]`), []byte(`[4,2]`), 1))
		f.Add(append(data[:len(data)-4:len(data)-4], 0xff, 0xff, 0xff, 0xff))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(a.Dir, WeightsFile), data, 0o666); err != nil {
			t.Fatal(err)
		}
		got, err := Read(a.Dir, cfg)
		if err != nil {
			inputError(t, err)
			return
		}
		w := got.Modules[a.Config.Modules[0]]
		if len(got.Modules) != 1 || len(w.A) != 2*4 || len(w.B) != 6*2 {
			t.Fatalf("%+v", got.Modules)
		}
	})
}
