package gguf

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/fault"
	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// values reads a tensor of a file.
func values(t *testing.T, f *file.File, name string) []float32 {
	t.Helper()
	x, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("%s has no tensor %s", f.Path(), name)
	}
	v := make([]float32, x.Rows()*x.Columns())
	if err := x.Float32(v, 0); err != nil {
		t.Fatal(err)
	}
	return v
}

// stored reads the tensors of a checkpoint.
func stored(t *testing.T, dir string) map[string][]float32 {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "model*.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]float32{}
	for _, path := range paths {
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, name := range f.Names() {
			x, _ := f.Tensor(name)
			out[name] = make([]float32, x.NumElements())
			if err := x.Float32(out[name], 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// interleave reorders the rows of q or k as llama.cpp's converter does: [heads, 2, dim/2, cols]
// becomes [heads, dim/2, 2, cols].
func interleave(v []float32, heads, dim int) []float32 {
	var out []float32
	cols := len(v) / (heads * dim)
	for h := range heads {
		for j := range dim / 2 {
			for k := range 2 {
				row := (h*2+k)*dim/2 + j
				out = append(out, v[row*cols:(row+1)*cols]...)
			}
		}
	}
	return out
}

// ours are the names of llama.cpp's tensors, by those of transformers.
var ours = map[string]string{
	"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight",
	"input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "ffn_norm.weight",
	"self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight", "self_attn.v_proj.weight": "attn_v.weight",
	"self_attn.q_proj.bias": "attn_q.bias", "self_attn.k_proj.bias": "attn_k.bias", "self_attn.v_proj.bias": "attn_v.bias",
	"self_attn.o_proj.weight": "attn_output.weight", "self_attn.o_proj.bias": "attn_output.bias",
	"self_attn.q_norm.weight": "attn_q_norm.weight", "self_attn.k_norm.weight": "attn_k_norm.weight",
	"mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight", "mlp.down_proj.weight": "ffn_down.weight",
	"mlp.gate_proj.bias": "ffn_gate.bias", "mlp.up_proj.bias": "ffn_up.bias", "mlp.down_proj.bias": "ffn_down.bias",
}

// contexts are the contexts of fixtures that are refused without one, and what the message says.
var contexts = map[string]struct {
	context int
	message string
}{
	"llama-longrope-long":  {16, "factors of longrope"},
	"llama-longrope-short": {48, "factors of longrope"},
	"mistral-layer-types":  {6, "llama does not have a sliding window (6 of 64 tokens in 1 layers)"},
	"mistral-window":       {8, "sliding window"},
	"mistral-window-1":     {1, "sliding window"},
	"mistral-window-long":  {300, "sliding window"},
	"qwen2-window":         {5, "qwen2 does not have a sliding window"},
	"qwen3-layer-types":    {7, "qwen3 does not have a sliding window"},
	"qwen3-biases":         {0, "qwen3 does not have a bias of o_proj"},
}

// The file of every family has the checkpoint's values under llama.cpp's names, q and k of llama
// with their rows in llama.cpp's order, and the hyperparameters of config.json.
func TestFamilies(t *testing.T) {
	for _, name := range exporttest.Names(t) {
		t.Run(name, func(t *testing.T) {
			dir := exporttest.Copy(t, name)
			q := kept(t, dir)
			opts := Options{Artifact: q, As: "f32"}
			if c, refused := contexts[name]; refused {
				_, err := Export(bg, Options{Artifact: q, As: "f32", Out: filepath.Join(t.TempDir(), "m.gguf")})
				if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), c.message) {
					t.Fatalf("%v, expected that llama.cpp cannot express it: %s", err, c.message)
				}
				var e *fault.Error
				if errors.As(err, &e); c.context > 0 && !strings.Contains(e.Hint, fmt.Sprintf("--ctx %d ", c.context)) {
					t.Errorf("hint %q, expected --ctx %d", e.Hint, c.context)
				}
				if opts.Context = c.context; c.context == 0 {
					return
				}
			}
			f, _ := open(t, opts)
			cfg, err := model.LoadConfig(q)
			if err != nil {
				t.Fatal(err)
			}
			checkHyperparameters(t, f, dir, cfg, opts.Context)
			checkValues(t, f, stored(t, dir), cfg)
		})
	}
}

func checkHyperparameters(t *testing.T, f *file.File, dir string, cfg *model.Config, ctx int) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	arch := map[string]string{"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}[c["model_type"].(string)]
	if got, err := file.Get[string](f, "general.architecture"); err != nil || got != arch {
		t.Fatalf("architecture %q, %v; expected %s", got, err, arch)
	}
	for key, of := range map[string]string{
		"embedding_length": "hidden_size", "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
		"attention.head_count": "num_attention_heads", "vocab_size": "vocab_size",
	} {
		if got, err := file.Get[uint32](f, arch+"."+key); err != nil || float64(got) != c[of] {
			t.Errorf("%s is %v, %v; %s is %v", key, got, err, of, c[of])
		}
	}
	if got, _ := file.Get[float32](f, arch+".attention.layer_norm_rms_epsilon"); got != float32(c["rms_norm_eps"].(float64)) {
		t.Errorf("epsilon %v", got)
	}
	if got, _ := file.Get[float32](f, arch+".rope.freq_base"); got != float32(cfg.Rope.Theta) {
		t.Errorf("base %v", got)
	}
	if ctx == 0 {
		ctx = cfg.MaxPositions
	}
	for key, want := range map[string]int{
		"context_length": ctx, "attention.head_count_kv": cfg.KVHeads, "attention.key_length": cfg.HeadDim,
		"attention.value_length": cfg.HeadDim, "rope.dimension_count": cfg.HeadDim,
	} {
		if got, err := f.Integer(arch + "." + key); err != nil || got != want {
			t.Errorf("%s is %d, %v; expected %d", key, got, err, want)
		}
	}
}

func checkValues(t *testing.T, f *file.File, tensors map[string][]float32, cfg *model.Config) {
	t.Helper()
	arch, _ := file.Get[string](f, "general.architecture")
	found := 0
	for name, want := range tensors {
		layer, rest, in := strings.Cut(strings.TrimPrefix(name, "model.layers."), ".")
		as := ours[name]
		if in && strings.HasPrefix(name, "model.layers.") {
			as = "blk." + layer + "." + ours[rest]
		}
		if cfg.TieEmbeddings && name == "lm_head.weight" {
			as = "token_embd.weight"
		}
		if strings.HasSuffix(name, "inv_freq") {
			continue
		}
		if arch == "llama" && strings.Contains(name, "q_proj") {
			want = interleave(want, cfg.Heads, cfg.HeadDim)
		} else if arch == "llama" && strings.Contains(name, "k_proj") {
			want = interleave(want, cfg.KVHeads, cfg.HeadDim)
		}
		got := values(t, f, as)
		found++
		tolerance := 0.0
		if as == "token_embd.weight" || as == "output.weight" { // they have 8 bits in the artifact
			tolerance = float64(slices.Max(want)-slices.Min(want)) / 254
		}
		for i := range want {
			if math.Abs(float64(got[i]-want[i])) > tolerance {
				t.Fatalf("%s: %v at %d, expected %v", as, got[i], i, want[i])
			}
		}
	}
	if found < 20 {
		t.Errorf("%d tensors compared", found)
	}
	if _, head := f.Tensor("output.weight"); head == cfg.TieEmbeddings {
		t.Errorf("output.weight is there: %v; the head is tied: %v", head, cfg.TieEmbeddings)
	}
}

// Factors of the rotary embedding, and the keys of its scaling.
func TestScaling(t *testing.T) {
	// Between 1 and 4 rotations in 16 positions, llama3 changes the factor smoothly from 8 to 1; the
	// first dimension has 16/2π.
	const smooth = (16/(2*math.Pi) - 1) / (4 - 1)
	for name, test := range map[string]struct {
		context int
		keys    map[string]any
		tensors map[string][]float32
	}{
		"llama-linear": {keys: map[string]any{"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": float32(2.5)}},
		"qwen2-yarn": {keys: map[string]any{
			"qwen2.rope.scaling.type": "yarn", "qwen2.rope.scaling.factor": float32(4), "qwen2.rope.scaling.original_context_length": uint32(16),
		}},
		"llama-longrope-short": {context: 48,
			keys: map[string]any{
				"llama.rope.scaling.type": "longrope", "llama.rope.scaling.original_context_length": uint32(48),
				"llama.rope.scaling.attn_factor": float32(math.Sqrt(1 + math.Log(3)/math.Log(48))),
			},
			tensors: map[string][]float32{"rope_factors_short.weight": {1, 1.05, 1.1, 1.3}, "rope_factors_long.weight": {1.1, 1.9, 3.2, 7.5}},
		},
		"llama3-bf16":   {tensors: map[string][]float32{"rope_freqs.weight": {float32(8 / (1 + 7*smooth)), 8, 8, 8}}},
		"llama-dynamic": {},
		"llama2-f32":    {},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := open(t, Options{Artifact: kept(t, exporttest.Copy(t, name)), As: "f16", Context: test.context})
			keys := map[string]any{}
			for _, kv := range f.Metadata() {
				if strings.Contains(kv.Key, ".rope.scaling.") {
					keys[kv.Key] = kv.Value
				}
			}
			if fmt.Sprint(keys) != fmt.Sprint(test.keys) && len(keys)+len(test.keys) > 0 {
				t.Errorf("keys %v, expected %v", keys, test.keys)
			}
			found := 0
			for _, x := range f.Tensors() {
				if strings.HasPrefix(x.Name, "rope_") {
					found++
					got := values(t, f, x.Name)
					for i, want := range test.tensors[x.Name] {
						if math.Abs(float64(got[i]/want-1)) > 1e-6 || len(got) != len(test.tensors[x.Name]) {
							t.Errorf("%s is %v, expected %v", x.Name, got, test.tensors[x.Name])
						}
					}
				}
			}
			if found != len(test.tensors) {
				t.Errorf("%d tensors of factors, expected %d", found, len(test.tensors))
			}
		})
	}
}

// The families that are held to llama.cpp have an architecture; an export of the others is refused.
func TestArchitectures(t *testing.T) {
	verified := []string{"llama", "mistral", "qwen2", "qwen3"}
	for _, family := range model.Families() {
		if _, ok := ggufmodel.ArchitectureOf(family); ok != slices.Contains(verified, family) {
			t.Errorf("%s has an architecture: %v", family, ok)
		}
	}
}

func TestOtherFamilies(t *testing.T) {
	exporttest.Refuses(t, func(artifact, out string) error {
		_, err := Export(bg, Options{Artifact: artifact, Out: out, As: "f16"})
		return err
	})
}
