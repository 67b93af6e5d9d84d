package mlx

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/model"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
)

// What mlx-lm computes from an adapter's directory, scale·lora_a·lora_b, is the product of the
// adapter, for any ranks and scales.
func TestAdapters(t *testing.T) {
	q := exporttest.Quantize(t, quantize.Options{Model: exporttest.Copy(t, "llama-wide-heads"), Form: "affine4_g32"})
	cfg, err := model.LoadConfig(q)
	if err != nil {
		t.Fatal(err)
	}
	const special = "model.layers.1.self_attn.k_proj"
	all := func(string) bool { return true }
	for name, test := range map[string]struct {
		config adapter.Config
		dtype  safetensors.DType
		adapts func(module string) bool
		scale  float64
		kind   safetensors.DType
		keys   int
	}{
		"plain":       {adapter.Config{Rank: 3, Alpha: 6}, safetensors.F16, all, 2, safetensors.F16, 7},
		"float32":     {adapter.Config{Rank: 3, Alpha: 5}, safetensors.F32, all, 5.0 / 3, safetensors.F32, 7},
		"ranks":       {adapter.Config{Rank: 3, Alpha: 6, Ranks: map[string]int{special: 2}}, safetensors.F16, all, 1, safetensors.F32, 7},
		"root of 4":   {adapter.Config{Rank: 4, Alpha: 6, RSLoRA: true}, safetensors.F16, all, 3, safetensors.F16, 7},
		"other alpha": {adapter.Config{Rank: 2, Alpha: 6, Alphas: map[string]float64{special: 3}}, safetensors.F16, all, 1, safetensors.F32, 7},
		"same scale":  {adapter.Config{Rank: 4, Alpha: 8, Ranks: map[string]int{special: 2}, Alphas: map[string]float64{special: 4}}, safetensors.F16, all, 2, safetensors.F16, 7},
		"one module":  {adapter.Config{Rank: 2, Alpha: 4}, safetensors.F16, func(m string) bool { return m == special }, 2, safetensors.F16, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a := exporttest.Adapter(t, q, test.config, test.dtype, test.adapts)
			f, r := export(t, Options{Artifact: q, Adapters: []Adapter{{Name: "x", Dir: a.Dir}}})
			dir := filepath.Join(filepath.Dir(f.Path()), "adapters", "x")
			x, err := safetensors.Open(filepath.Join(dir, "adapters.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			data, err := os.ReadFile(filepath.Join(dir, "adapter_config.json"))
			if err != nil {
				t.Fatal(err)
			}
			var c struct {
				Type       string `json:"fine_tune_type"`
				Layers     int    `json:"num_layers"`
				Parameters struct {
					Rank           int
					Scale, Dropout float64
					Keys           []string
				} `json:"lora_parameters"`
			}
			if err := json.Unmarshal(data, &c); err != nil {
				t.Fatal(err)
			}
			p := c.Parameters
			if c.Type != "lora" || c.Layers != cfg.Layers || math.Abs(p.Scale-test.scale) > 1e-12 || p.Rank != a.Config.Rank || p.Dropout != 0 || len(p.Keys) != test.keys {
				t.Errorf("adapter_config.json: %+v", c)
			}
			if got := r.Adapters; len(got) != 1 || got[0].Dir != dir || got[0].Rank != p.Rank || got[0].Bytes != x.Bytes() || x.Metadata()["afmq.adapter.sha256"] != got[0].SHA256 {
				t.Errorf("%+v", got)
			}
			if len(x.Names()) != 2*len(a.Modules) || x.Metadata()["afmq.base.content_hash"] != r.ContentHash {
				t.Errorf("%d tensors, metadata %v", len(x.Names()), x.Metadata())
			}
			for _, spec := range cfg.Tensors() {
				w, ok := a.Modules[spec.Module()]
				if spec.Role != model.Projection || !ok {
					continue
				}
				la, lb := tensor(t, x, spec.Module()+".lora_a", test.kind, spec.Shape[1], p.Rank), tensor(t, x, spec.Module()+".lora_b", test.kind, p.Rank, spec.Shape[0])
				want := product(w.A, w.B, a.Config.RankOf(spec.Module()), float64(a.Config.ScaleOf(spec.Module())))
				got := make([]float64, len(want))
				for o := range spec.Shape[0] {
					for i := range spec.Shape[1] {
						for k := range p.Rank {
							got[o*spec.Shape[1]+i] += p.Scale * float64(la[i*p.Rank+k]) * float64(lb[k*spec.Shape[0]+o])
						}
					}
				}
				for i := range want {
					if math.Abs(got[i]-want[i]) > 1e-6 {
						t.Fatalf("%s: %v at %d, expected %v", spec.Name, got[i], i, want[i])
					}
				}
			}
		})
	}
}

// tensor reads a tensor of a type and shape.
func tensor(t *testing.T, f *safetensors.File, name string, kind safetensors.DType, rows, cols int) []float32 {
	t.Helper()
	x, ok := f.Tensor(name)
	if !ok || x.DType != kind || !slices.Equal(x.Shape, []int{rows, cols}) {
		t.Fatalf("%s: %+v, expected %v [%d %d]", name, x, kind, rows, cols)
	}
	v := make([]float32, rows*cols)
	if err := x.Float32(v, 0); err != nil {
		t.Fatal(err)
	}
	return v
}

// product returns scale·B·A, [out, in], for A [rank, in] and B [out, rank].
func product(a, b []float32, rank int, scale float64) []float64 {
	out, in := len(b)/rank, len(a)/rank
	y := make([]float64, out*in)
	for i := range out {
		for k := range rank {
			for j := range in {
				y[i*in+j] += scale * float64(b[i*rank+k]) * float64(a[k*in+j])
			}
		}
	}
	return y
}
