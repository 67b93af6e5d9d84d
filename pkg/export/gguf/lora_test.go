package gguf

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/ggml"
	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
)

func everyModule(string) bool { return true }

// What llama.cpp computes from an adapter's file, alpha/rank·B·A or B·A if alpha is 0, is the
// product of the adapter, with the rows of q and k in llama.cpp's order.
func TestAdapters(t *testing.T) {
	q := exporttest.Quantize(t, quantize.Options{Model: exporttest.Copy(t, "llama-wide-heads"), Bits: 4})
	cfg, err := model.LoadConfig(q)
	if err != nil {
		t.Fatal(err)
	}
	const special = "model.layers.1.self_attn.k_proj"
	for name, test := range map[string]struct {
		config adapter.Config
		dtype  safetensors.DType
		alpha  float32
		kind   ggml.Type
	}{
		"plain":       {adapter.Config{Rank: 3, Alpha: 5}, safetensors.F16, 5, ggml.F16},
		"float32":     {adapter.Config{Rank: 3, Alpha: 5}, safetensors.F32, 5, ggml.F32},
		"ranks":       {adapter.Config{Rank: 3, Alpha: 6, Ranks: map[string]int{special: 2}}, safetensors.F16, 6, ggml.F16},
		"root of 4":   {adapter.Config{Rank: 4, Alpha: 6, RSLoRA: true}, safetensors.F16, 12, ggml.F16},
		"other alpha": {adapter.Config{Rank: 2, Alpha: 6, Alphas: map[string]float64{special: 3}}, safetensors.F16, 0, ggml.F32},
	} {
		t.Run(name, func(t *testing.T) {
			a := exporttest.Adapter(t, q, test.config, test.dtype, everyModule)
			out := filepath.Join(t.TempDir(), "m.gguf")
			r, err := Export(bg, Options{Artifact: q, Out: out, As: "f16", Adapters: []Adapter{{Name: "x", Dir: a.Dir}}})
			if err != nil {
				t.Fatal(err)
			}
			path := strings.TrimSuffix(out, ".gguf") + "-x.gguf"
			f, err := file.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if len(r.Adapters) != 1 || r.Adapters[0].File != path || r.Adapters[0].Bytes != f.Bytes() {
				t.Errorf("%+v", r.Adapters)
			}
			checkAdapterMetadata(t, f, r)
			alpha, _ := file.Get[float32](f, "adapter.lora.alpha")
			if alpha != test.alpha || len(f.Tensors()) != 2*len(a.Modules) {
				t.Errorf("alpha %v, %d tensors", alpha, len(f.Tensors()))
			}
			for _, spec := range cfg.Tensors() {
				w, ok := a.Modules[spec.Module()]
				if spec.Role != model.Projection || !ok {
					continue
				}
				rank := a.Config.RankOf(spec.Module())
				scale := float64(alpha) / float64(rank)
				if alpha == 0 {
					scale = 1
				}
				b := w.B
				for kind, heads := range map[string]int{"q_proj": cfg.Heads, "k_proj": cfg.KVHeads} {
					if spec.Kind == kind {
						b = interleave(b, heads, cfg.HeadDim)
					}
				}
				x, _ := f.Tensor(ggufmodel.TensorName(spec) + ".lora_b")
				if x.Type != test.kind {
					t.Errorf("%s is %v", x.Name, x.Type)
				}
				want := product(b, w.A, rank, float64(a.Config.ScaleOf(spec.Module())))
				got := product(values(t, f, x.Name), values(t, f, ggufmodel.TensorName(spec)+".lora_a"), rank, scale)
				for i := range want {
					if math.Abs(got[i]-want[i]) > 1e-6 {
						t.Fatalf("%s: %v at %d, expected %v", x.Name, got[i], i, want[i])
					}
				}
			}
		})
	}
}

func checkAdapterMetadata(t *testing.T, f *file.File, r *Result) {
	t.Helper()
	for key, want := range map[string]string{
		"general.architecture": "llama", "general.type": "adapter", "general.name": "m-x", "adapter.type": "lora",
		"afmq.base.content_hash": r.ContentHash, "afmq.adapter.sha256": r.Adapters[0].SHA256,
	} {
		if got, err := file.Get[string](f, key); err != nil || got != want {
			t.Errorf("%s is %q, %v; expected %q", key, got, err, want)
		}
	}
}

// product returns scale·B·A, [out, in], for B [out, rank] and A [rank, in].
func product(b, a []float32, rank int, scale float64) []float64 {
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

// If the model's file cannot be written, no adapter's file is left.
func TestAdaptersAreWithdrawn(t *testing.T) {
	q := exporttest.Quantize(t, quantize.Options{Model: exporttest.Copy(t, "llama-wide-heads"), Bits: 4})
	a := exporttest.Adapter(t, q, adapter.Config{Rank: 2, Alpha: 2}, safetensors.F16, everyModule)
	dir := t.TempDir()
	out := filepath.Join(dir, "m.gguf")
	p := &interloper{canceller: canceller{Reporter: progress.Silent}, path: out}
	_, err := Export(bg, Options{Artifact: q, Out: out, As: "f16", Adapters: []Adapter{{Name: "x", Dir: a.Dir}}, Progress: p})
	if err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Fatalf("%v, expected that the file exists", err)
	}
	if left := exporttest.Contents(t, dir); len(left) != 1 || left["m.gguf"] != "mine" {
		t.Errorf("left %d files", len(left))
	}
}

// interloper creates the file of the model while it is being written.
type interloper struct {
	canceller
	path string
}

func (p *interloper) Advance(int64) {
	if p.writing {
		os.WriteFile(p.path, []byte("mine"), 0o666)
	}
}
