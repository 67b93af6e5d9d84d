package exporttest

import (
	"math/rand/v2"
	"os"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// Adapter writes an adapter for the artifact q, of random values that F16 has, on the projections that
// adapts accepts.
func Adapter(t *testing.T, q string, c adapter.Config, dtype safetensors.DType, adapts func(module string) bool) *adapter.Adapter {
	t.Helper()
	cfg, err := model.LoadConfig(q)
	if err != nil {
		t.Fatal(err)
	}
	m, err := artifact.ReadManifest(q)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.IntN(64)-32) / 64
		}
		return v
	}
	a := &adapter.Adapter{Dir: t.TempDir(), Base: m.ContentHash, Config: c, Modules: map[string]adapter.Weights{}}
	for _, spec := range cfg.Tensors() {
		if spec.Role != model.Projection || !adapts(spec.Module()) {
			continue
		}
		a.Config.Modules = append(a.Config.Modules, spec.Module())
		rank := a.Config.RankOf(spec.Module())
		a.Modules[spec.Module()] = adapter.Weights{A: random(rank * spec.Shape[1]), B: random(spec.Shape[0] * rank)}
	}
	if err := adapter.Write(a, cfg, dtype, func(path string, data []byte) error { return os.WriteFile(path, data, 0o666) }); err != nil {
		t.Fatal(err)
	}
	return a
}
