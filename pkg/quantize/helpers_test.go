package quantize

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// tinyModel is the trained checkpoint that the project embeds: 1.07 M
// parameters, tied, F16.
const tinyModel = "../../internal/demo/model"

var bg = context.Background()

func newPool(t testing.TB, threads int) *compute.Pool {
	p := compute.NewPool(threads)
	t.Cleanup(p.Close)
	return p
}

// tensor is one tensor of a checkpoint to be written.
type tensor struct {
	name  string
	dtype safetensors.DType
	shape []int
	data  []byte
}

func (x tensor) info() safetensors.Info {
	return safetensors.Info{Name: x.name, DType: x.dtype, Shape: x.shape}
}

// Dimensions of the synthetic checkpoints; 24, 8 and 40 are no multiples of 16.
const (
	synHidden = 24
	synKV     = 8
	synFFN    = 40
	synVocab  = 2048 // required by the tokenizer
	synLayers = 2
)

// synthetic is a checkpoint in memory.
type synthetic struct {
	config  map[string]any
	tensors []tensor
}

// newSynthetic makes a Llama checkpoint with an untied head whose weights have
// rows of very different size; bias adds q, k and v biases (Qwen2).
func newSynthetic(dtype safetensors.DType, bias bool) *synthetic {
	s := &synthetic{config: map[string]any{
		"model_type": "llama", "architectures": []string{"LlamaForCausalLM"},
		"hidden_size": synHidden, "intermediate_size": synFFN, "num_hidden_layers": synLayers,
		"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": synVocab,
		"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 64, "hidden_act": "silu",
		"tie_word_embeddings": false, "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 0,
	}}
	if bias {
		s.config["model_type"] = "qwen2"
		s.config["architectures"] = []string{"Qwen2ForCausalLM"}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	add := func(name string, shape ...int) {
		n, cols := 1, shape[len(shape)-1]
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64() * math.Exp2(float64(i/cols%7)-5))
		}
		s.tensors = append(s.tensors, tensor{name, dtype, shape, floatBytes(dtype, v)})
	}
	add("model.embed_tokens.weight", synVocab, synHidden)
	for l := range synLayers {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"input_layernorm.weight", synHidden)
		for _, k := range []struct {
			name string
			rows int
		}{{"q", synHidden}, {"k", synKV}, {"v", synKV}} {
			add(p+"self_attn."+k.name+"_proj.weight", k.rows, synHidden)
			if bias {
				add(p+"self_attn."+k.name+"_proj.bias", k.rows)
			}
		}
		add(p+"self_attn.o_proj.weight", synHidden, synHidden)
		add(p+"post_attention_layernorm.weight", synHidden)
		add(p+"mlp.gate_proj.weight", synFFN, synHidden)
		add(p+"mlp.up_proj.weight", synFFN, synHidden)
		add(p+"mlp.down_proj.weight", synHidden, synFFN)
	}
	add("model.norm.weight", synHidden)
	add("lm_head.weight", synVocab, synHidden)
	return s
}

// tie ties the head to the embedding and stores the weight under these names.
func (s *synthetic) tie(names ...string) {
	s.config["tie_word_embeddings"] = true
	embed := *s.tensor("model.embed_tokens.weight")
	s.drop("model.embed_tokens.weight")
	s.drop("lm_head.weight")
	for _, n := range names {
		c := embed
		c.name, c.data = n, bytes.Clone(embed.data)
		s.tensors = append(s.tensors, c)
	}
}

func (s *synthetic) tensor(name string) *tensor {
	for i := range s.tensors {
		if s.tensors[i].name == name {
			return &s.tensors[i]
		}
	}
	panic("no tensor " + name)
}

func (s *synthetic) drop(name string) {
	s.tensor(name)
	var keep []tensor
	for _, x := range s.tensors {
		if x.name != name {
			keep = append(keep, x)
		}
	}
	s.tensors = keep
}

// write writes the checkpoint into a new directory, in the given number of
// shards, and returns it.
func (s *synthetic) write(t testing.TB, shards int) string {
	t.Helper()
	dir := t.TempDir()
	config, err := json.MarshalIndent(s.config, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "config.json"), config)
	copyTo(t, filepath.Join(tinyModel, "tokenizer.json"), filepath.Join(dir, "tokenizer.json"))
	if shards == 1 {
		writeTensors(t, filepath.Join(dir, "model.safetensors"), s.tensors)
		return dir
	}
	index := map[string]string{}
	for k := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", k+1, shards)
		a, b := k*len(s.tensors)/shards, (k+1)*len(s.tensors)/shards
		writeTensors(t, filepath.Join(dir, name), s.tensors[a:b])
		for _, x := range s.tensors[a:b] {
			index[x.name] = name
		}
	}
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{}, "weight_map": index})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "model.safetensors.index.json"), data)
	return dir
}

func writeTensors(t testing.TB, path string, tensors []tensor) {
	t.Helper()
	var infos []safetensors.Info
	for _, x := range tensors {
		infos = append(infos, x.info())
	}
	w, err := safetensors.Create(path, infos, map[string]string{"format": "pt"})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range tensors {
		if err := w.Write(x.name, x.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// floatBytes stores values in a type, F16 and BF16 rounded to nearest even.
func floatBytes(dtype safetensors.DType, v []float32) []byte {
	switch dtype {
	case safetensors.F32:
		return float32Bytes(v)
	case safetensors.F16:
		h := make([]uint16, len(v))
		kernel.F32ToF16(h, v)
		return uint16Bytes(h)
	case safetensors.BF16:
		h := make([]uint16, len(v))
		for i, x := range v {
			b := math.Float32bits(x)
			h[i] = uint16((b + 0x7fff + b>>16&1) >> 16)
		}
		return uint16Bytes(h)
	}
	panic("no such type")
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func copyTo(t testing.TB, from, to string) {
	t.Helper()
	writeFile(t, to, readFile(t, from))
}

// copyTree copies a directory as it is, symbolic links excepted.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// contents maps the files of a directory to their bytes.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out[e.Name()] = string(readFile(t, filepath.Join(dir, e.Name())))
	}
	return out
}

// sameContents fails unless two directories hold the same files.
func sameContents(t testing.TB, got, want string) {
	t.Helper()
	g, w := contents(t, got), contents(t, want)
	for name := range w {
		if g[name] != w[name] {
			t.Errorf("%s differs or is missing", name)
		}
	}
	for name := range g {
		if _, ok := w[name]; !ok {
			t.Errorf("%s is extra", name)
		}
	}
}

// runOn is Run with the workers of a pool.
func runOn(ctx context.Context, pool *compute.Pool, opts Options) (*Result, error) {
	opts.Pool = pool
	return Run(ctx, opts)
}

// run quantizes into a new directory, or opts.Out, and fails the test on an error.
func run(t testing.TB, pool *compute.Pool, opts Options) (string, *Result) {
	t.Helper()
	if opts.Out == "" {
		opts.Out = filepath.Join(t.TempDir(), "out")
	}
	if opts.ToolVersion == "" {
		opts.ToolVersion = "test"
	}
	res, err := runOn(bg, pool, opts)
	if err != nil {
		t.Fatal(err)
	}
	return opts.Out, res
}

// wantFault fails unless err is of the kind, on one line, and mentions all parts.
func wantFault(t testing.TB, err error, kind fault.Kind, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if fault.KindOf(err) != kind || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v: kind %v, want %v, on one line", err, fault.KindOf(err), kind)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%v: does not mention %q", err, p)
		}
	}
}

// wantEmpty fails if anything is left in a directory.
func wantEmpty(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left behind", e.Name())
	}
}

// halfValue returns the value of an fp16 number.
func halfValue(h uint16) float64 {
	var v [1]float32
	kernel.F16ToF32(v[:], []uint16{h})
	return float64(v[0])
}
