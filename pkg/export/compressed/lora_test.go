package compressed

import (
	"math"
	"path/filepath"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/model"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
)

// An adapter's directory is one of PEFT's with the product of the adapter, one rank and one alpha.
func TestAdapters(t *testing.T) {
	q := exporttest.Quantize(t, quantize.Options{Model: exporttest.Copy(t, "llama-wide-heads"), Form: "symmetric4_g32"})
	cfg, err := model.LoadConfig(q)
	if err != nil {
		t.Fatal(err)
	}
	const special = "model.layers.1.self_attn.k_proj"
	for name, test := range map[string]struct {
		config adapter.Config
		alpha  float64
	}{
		"plain":       {adapter.Config{Rank: 3, Alpha: 5}, 5},
		"root of 4":   {adapter.Config{Rank: 4, Alpha: 6, RSLoRA: true}, 6},
		"ranks":       {adapter.Config{Rank: 3, Alpha: 6, Ranks: map[string]int{special: 2}}, 3},
		"other alpha": {adapter.Config{Rank: 2, Alpha: 6, Alphas: map[string]float64{special: 3}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			a := exporttest.Adapter(t, q, test.config, safetensors.F16, func(string) bool { return true })
			f, r := export(t, Options{Artifact: q, Adapters: []Adapter{{Name: "x", Dir: a.Dir}}})
			dir := filepath.Join(filepath.Dir(f.Path()), "adapters", "x")
			got, err := adapter.Open(dir, q, cfg, false) // bound to the artifact
			if err != nil {
				t.Fatal(err)
			}
			c := got.Config
			if c.Rank != a.Config.Rank || math.Abs(c.Alpha-test.alpha) > 1e-12 || c.RSLoRA != a.Config.RSLoRA || len(c.Ranks)+len(c.Alphas) > 0 {
				t.Errorf("%+v", c)
			}
			if x := r.Adapters; len(x) != 1 || x[0].Dir != dir || x[0].Rank != c.Rank || x[0].Bytes != got.Bytes {
				t.Errorf("%+v", x)
			}
			for module, w := range a.Modules {
				want := product(w, a.Config.RankOf(module), a.Config.ScaleOf(module))
				for i, x := range product(got.Modules[module], c.RankOf(module), c.ScaleOf(module)) {
					if math.Abs(x-want[i]) > 1e-6 {
						t.Fatalf("%s: %v at %d, expected %v", module, x, i, want[i])
					}
				}
			}
		})
	}
}

// product returns scale·B·A.
func product(w adapter.Weights, rank int, scale float32) []float64 {
	out, in := len(w.B)/rank, len(w.A)/rank
	y := make([]float64, out*in)
	for i := range out {
		for k := range rank {
			for j := range in {
				y[i*in+j] += float64(scale) * float64(w.B[i*rank+k]) * float64(w.A[k*in+j])
			}
		}
	}
	return y
}
