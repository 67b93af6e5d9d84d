package quantize

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"afmq/pkg/compute"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// BenchmarkRun quantizes one layer of the AFM shape and an embedding (230 MB of fp16) from the
// page cache, on one core and on all, with row scales and without. It reports the fp16 bytes
// of the checkpoint per second and core, with hashing and writing. The peak resident set
// includes the creation of the checkpoint.
func BenchmarkRun(b *testing.B) {
	const (
		layers, hidden, ffn    = 1, 3072, 8192
		heads, kvHeads, headDm = 24, 8, 128
		vocab                  = 4096
	)
	s := &synthetic{config: map[string]any{
		"model_type": "qwen3", "architectures": []string{"Qwen3ForCausalLM"},
		"hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
		"num_attention_heads": heads, "num_key_value_heads": kvHeads, "head_dim": headDm, "vocab_size": vocab,
		"rms_norm_eps": 1e-6, "rope_theta": 500000.0, "max_position_embeddings": 4096, "hidden_act": "silu",
		"tie_word_embeddings": true, "attention_bias": false,
	}}
	rng := rand.New(rand.NewPCG(5, 6))
	add := func(name string, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64() * 0.02)
		}
		s.tensors = append(s.tensors, tensor{name, safetensors.F16, shape, floatBytes(safetensors.F16, v)})
	}
	add("model.embed_tokens.weight", vocab, hidden)
	for l := range layers {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"input_layernorm.weight", hidden)
		add(p+"self_attn.q_norm.weight", headDm)
		add(p+"self_attn.k_norm.weight", headDm)
		add(p+"self_attn.q_proj.weight", heads*headDm, hidden)
		add(p+"self_attn.k_proj.weight", kvHeads*headDm, hidden)
		add(p+"self_attn.v_proj.weight", kvHeads*headDm, hidden)
		add(p+"self_attn.o_proj.weight", hidden, heads*headDm)
		add(p+"post_attention_layernorm.weight", hidden)
		add(p+"mlp.gate_proj.weight", ffn, hidden)
		add(p+"mlp.up_proj.weight", ffn, hidden)
		add(p+"mlp.down_proj.weight", hidden, ffn)
	}
	add("model.norm.weight", hidden)
	model := s.write(b, 1)
	s = nil
	for _, bits := range []int{4, 2} {
		for _, cores := range []int{1, runtime.GOMAXPROCS(0)} {
			for _, scaled := range []bool{true, false} {
				b.Run(fmt.Sprintf("bits=%d/cores=%d/rowscale=%v", bits, cores, scaled), func(b *testing.B) {
					benchmarkRun(b, cores, Options{Model: model, Bits: bits, NoRowScale: !scaled})
				})
			}
		}
	}
}

func benchmarkRun(b *testing.B, cores int, opt Options) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores)) // hashing and writing share the cores
	pool := compute.NewPool(cores)
	defer pool.Close()
	opt.Out, opt.ToolVersion = filepath.Join(b.TempDir(), "out"), "test"
	var source, peak int64
	for b.Loop() {
		res, err := runOn(bg, pool, opt)
		if err != nil {
			b.Fatal(err)
		}
		source, peak = res.SourceBytes, res.PeakRSSBytes
		if err := os.RemoveAll(opt.Out); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(source)
	perSecond := float64(source) * float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(perSecond/1e6/float64(cores), "MB/s/core")
	b.ReportMetric(float64(peak)/1e6, "peak-RSS-MB")
}

// BenchmarkRunCalibrated quantizes afm-mini, from the directory in AFMQ_SHARED, to 4 bits with
// row scales and error compensation over 16,384 tokens, on all cores. Its CPU profile
// (-cpuprofile) gives the share of the matrix products.
func BenchmarkRunCalibrated(b *testing.B) {
	dir := os.Getenv("AFMQ_SHARED")
	if dir == "" {
		b.Skip("AFMQ_SHARED names no directory")
	}
	benchmarkRun(b, runtime.GOMAXPROCS(0), Options{
		Model: filepath.Join(dir, "models", "afm-mini"), Bits: 4,
		Calibration: sensitivity.CalibrationOptions{Files: []string{filepath.Join(dir, "corpora", "calib.jsonl")}, Tokens: 16384},
	})
}
