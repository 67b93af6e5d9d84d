package ggufmodel_test

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
)

// file is a GGUF file as a test changes it before it is written.
type file struct {
	keys    map[string]any
	tensors []gguf.Info
	data    map[string][]byte // zeros where it has none
}

// alphabet is ByteLevel's: a character for each byte.
func alphabet() (tokens []string) {
	next := rune(256)
	for b := range rune(256) {
		r := b
		if b <= 32 || b >= 127 && b <= 160 || b == 173 {
			r = next
			next++
		}
		tokens = append(tokens, string(r))
	}
	return tokens
}

// base is a small model of the architecture "llama" with byte-level BPE.
func base() *file {
	f := &file{
		keys: map[string]any{
			"general.architecture": "llama", "llama.context_length": uint32(64), "llama.embedding_length": uint32(8),
			"llama.block_count": uint32(1), "llama.feed_forward_length": uint32(12), "llama.attention.head_count": uint32(2),
			"llama.attention.head_count_kv": uint32(1), "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
			"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": append(alphabet(), "th", "the", "<s>", "[PAD259]"),
			"tokenizer.ggml.token_type": append(slices.Repeat([]int32{1}, 258), 3, 5), "tokenizer.ggml.merges": []string{"t h", "th e"},
			"tokenizer.ggml.bos_token_id": uint32(258), "tokenizer.ggml.eos_token_id": uint32(258),
		},
		data: map[string][]byte{},
	}
	for name, shape := range map[string][]int{
		"token_embd.weight": {260, 8}, "output_norm.weight": {8}, "blk.0.attn_norm.weight": {8}, "blk.0.ffn_norm.weight": {8},
		"blk.0.attn_q.weight": {8, 8}, "blk.0.attn_k.weight": {4, 8}, "blk.0.attn_v.weight": {4, 8}, "blk.0.attn_output.weight": {8, 8},
		"blk.0.ffn_gate.weight": {12, 8}, "blk.0.ffn_up.weight": {12, 8}, "blk.0.ffn_down.weight": {8, 12},
	} {
		f.tensors = append(f.tensors, gguf.Info{Name: name, Type: ggml.F32, Shape: shape})
	}
	slices.SortFunc(f.tensors, func(a, b gguf.Info) int { return strings.Compare(a.Name, b.Name) })
	return f
}

// sentencePiece replaces the tokenizer by one with scores.
func (f *file) sentencePiece() {
	tokens, types, scores := []string{"<unk>", "<s>", "</s>"}, []int32{2, 3, 3}, []float32{0, 0, 0}
	for i, s := range []string{"▁", "t", "h", "e", "a", "th", "the", "▁the", "he"} {
		tokens, types = append(tokens, s), append(types, 1)
		scores = append(scores, float32(-max(0, i-4)))
	}
	for k := range f.keys {
		if strings.HasPrefix(k, "tokenizer.") {
			delete(f.keys, k)
		}
	}
	maps.Copy(f.keys, map[string]any{
		"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types, "tokenizer.ggml.scores": scores,
	})
}

func (f *file) add(name string, shape ...int) {
	f.tensors = append(f.tensors, gguf.Info{Name: name, Type: ggml.F32, Shape: shape})
}

func (f *file) tensor(name string) *gguf.Info {
	return &f.tensors[slices.IndexFunc(f.tensors, func(x gguf.Info) bool { return x.Name == name })]
}

func floats(v ...float32) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// write writes the file.
func (f *file) write(t testing.TB) string {
	t.Helper()
	var kvs []gguf.KV
	for _, k := range slices.Sorted(maps.Keys(f.keys)) {
		kvs = append(kvs, gguf.KV{Key: k, Value: f.keys[k]})
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	w, err := gguf.Create(path, kvs, f.tensors)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range f.tensors {
		n, err := x.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		data := f.data[x.Name]
		if data == nil {
			data = make([]byte, n)
		}
		if err := w.Append(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// open writes the file and opens the model.
func (f *file) open(t testing.TB) *ggufmodel.Model {
	t.Helper()
	m, err := ggufmodel.Open(f.write(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Keys that a file may omit have llama.cpp's defaults.
func TestDefaults(t *testing.T) {
	f := base()
	delete(f.keys, "llama.attention.head_count_kv")
	f.tensor("blk.0.attn_k.weight").Shape[0], f.tensor("blk.0.attn_v.weight").Shape[0] = 8, 8
	c := f.open(t).Config
	if c.ModelType != "llama" || c.KVHeads != 2 || c.HeadDim != 4 || !c.TieEmbeddings || c.QKVBias || c.OBias || c.MLPBias || c.QKNorm {
		t.Errorf("%+v", c)
	}
	if c.RMSNormEps != 1e-5 || c.Rope.Theta != 10_000 || c.Rope.Type != "default" || c.MaxPositions != 64 || c.VocabSize != 260 {
		t.Errorf("%+v", c)
	}
	if !slices.Equal(c.EOS, []int32{258}) || !slices.Equal(c.BOS, []int32{258}) {
		t.Errorf("ends %v %v", c.BOS, c.EOS)
	}
}

// The head, biases and a window are what the tensors and keys say.
func TestVariants(t *testing.T) {
	f := base()
	f.add("output.weight", 260, 8)
	for name, n := range map[string]int{"attn_q": 8, "attn_k": 4, "attn_v": 4, "attn_output": 8, "ffn_gate": 12, "ffn_up": 12, "ffn_down": 8} {
		f.add("blk.0."+name+".bias", n)
	}
	f.keys["llama.attention.head_count"] = []int32{2} // as an array of a number for each layer
	f.keys["llama.attention.sliding_window"] = uint32(16)
	f.data["blk.0.attn_q.bias"] = floats(0, 1, 2, 3, 4, 5, 6, 7)
	m := f.open(t)
	if c := m.Config; c.TieEmbeddings || !c.QKVBias || !c.OBias || !c.MLPBias || c.MaxPositions != 16 || c.Sliding != nil {
		t.Errorf("%+v", c)
	}
	for i := range m.Tensors {
		if x := &m.Tensors[i]; x.Name() == "blk.0.attn_q.bias" {
			// llama.cpp has rows 0 and 2 of a head of 4, then 1 and 3: [0 2 1 3] is its inverse here.
			if v, err := x.Vector(); err != nil || !slices.Equal(v, []float32{0, 2, 1, 3, 4, 6, 5, 7}) {
				t.Errorf("%v %v", v, err)
			}
		}
	}
}

// FileRow is the inverse of CheckpointRow.
func TestRows(t *testing.T) {
	a, _ := ggufmodel.ArchitectureOf("mistral")
	s := model.TensorSpec{Kind: "q_proj"}
	to, from := a.FileRow(s, 6), a.CheckpointRow(s, 6)
	for i := range 18 {
		if from(to(i)) != i || to(i)/6 != i/6 {
			t.Errorf("row %d is %d in the file, and %d in the checkpoint", i, to(i), from(to(i)))
		}
	}
	if to(1) != 2 || to(3) != 1 { // of the halves 0 1 2 and 3 4 5: pairs 0 3, 1 4, 2 5
		t.Errorf("rows 1 and 3 are %d and %d", to(1), to(3))
	}
	if a.FileRow(model.TensorSpec{Kind: "v_proj"}, 6) != nil {
		t.Error("v is reordered")
	}
}

// The rotary embedding is that of llama.cpp's formulas.
func TestRope(t *testing.T) {
	for name, test := range map[string]struct {
		change    func(f *file)
		inv       []float64 // for a head of 4 and a base of 100
		attention float64
	}{
		"base":      {func(*file) {}, []float64{1, 0.1}, 1},
		"none":      {func(f *file) { f.scaling("none", 4) }, []float64{1, 0.1}, 1},
		"linear":    {func(f *file) { f.scaling("linear", 4) }, []float64{0.25, 0.025}, 1},
		"no type":   {func(f *file) { f.keys["llama.rope.scaling.factor"] = float32(2) }, []float64{0.5, 0.05}, 1},
		"old name":  {func(f *file) { f.keys["llama.rope.scale_linear"] = float32(2) }, []float64{0.5, 0.05}, 1},
		"factors":   {func(f *file) { f.factors("rope_freqs.weight", 1, 5) }, []float64{1, 0.02}, 1},
		"both":      {func(f *file) { f.scaling("linear", 2); f.factors("rope_freqs.weight", 1, 5) }, []float64{0.5, 0.01}, 1},
		"attention": {func(f *file) { f.keys["llama.rope.scaling.attn_factor"] = float32(1.5) }, []float64{1, 0.1}, 1.5},
		"longrope": {func(f *file) {
			f.scaling("longrope", 1)
			f.factors("rope_factors_short.weight", 2, 4)
			f.factors("rope_factors_long.weight", 8, 16)
			f.keys["llama.rope.scaling.original_context_length"] = uint32(32)
			f.keys["llama.rope.scaling.attn_factor"] = float32(1.25)
		}, []float64{0.5, 0.025}, 1.25},
		// One pair turns more than 32 times in 1024 positions, the other less than once.
		"yarn": {func(f *file) {
			f.scaling("yarn", 4)
			f.keys["llama.rope.freq_base"] = float32(1e8)
			f.keys["llama.rope.scaling.original_context_length"] = uint32(1024)
		}, []float64{1, 1e-4 / 4}, 1 + 0.1*math.Log(4)},
	} {
		f := base()
		f.keys["llama.rope.freq_base"] = float32(100)
		test.change(f)
		c := f.open(t).Config
		inv, attention := c.Rope.Frequencies(c.HeadDim, 10)
		for i := range inv {
			if math.Abs(inv[i]/test.inv[i]-1) > 1e-12 {
				t.Errorf("%s: frequencies %v, expected %v", name, inv, test.inv)
				break
			}
		}
		if attention != test.attention {
			t.Errorf("%s: factor of attention %v, expected %v", name, attention, test.attention)
		}
	}
}

func (f *file) scaling(kind string, factor float32) {
	f.keys["llama.rope.scaling.type"], f.keys["llama.rope.scaling.factor"] = kind, factor
}

func (f *file) factors(name string, v ...float32) {
	f.add(name, len(v))
	f.data[name] = floats(v...)
}

// What cannot be run is refused, with the name of the key or the tensor.
func TestRefusals(t *testing.T) {
	key := func(name string, value any) func(*file) { return func(f *file) { f.keys[name] = value } }
	for want, change := range map[string]func(f *file){
		`architecture "gemma2" is not supported; supported are llama, qwen2, qwen3`: key("general.architecture", "gemma2"),
		`is an adapter, not a model`:                                                               key("general.type", "adapter"),
		`holds a "mmproj" (general.type), not a model`:                                             key("general.type", "mmproj"),
		`is one of 3 parts of a split file`:                                                        key("split.count", uint16(3)),
		`key "llama.context_length" is missing`:                                                    func(f *file) { delete(f.keys, "llama.context_length") },
		`key "llama.expert_count" is 8; only 0 is supported`:                                       key("llama.expert_count", uint32(8)),
		`key "llama.block_count" is 4000000000; expected 1 to 11`:                                  key("llama.block_count", uint32(4e9)),
		`key "llama.attention.value_length" is 2; only 4`:                                          key("llama.attention.value_length", uint32(2)),
		`key "llama.rope.dimension_count" is 2; only 4`:                                            key("llama.rope.dimension_count", uint32(2)),
		`key "llama.attention.head_count" differs from layer to layer`:                             key("llama.attention.head_count", []uint32{2, 4}),
		`key "llama.attention.head_count" is 2, which is not a multiple`:                           key("llama.attention.head_count_kv", uint32(3)),
		`key "llama.attention.key_length" is 3; the rotary`:                                        key("llama.attention.key_length", uint32(3)),
		`key "llama.attention.layer_norm_rms_epsilon" is NaN`:                                      key("llama.attention.layer_norm_rms_epsilon", float32(math.NaN())),
		`key "llama.attention.causal" is false`:                                                    key("llama.attention.causal", false),
		`key "llama.rope.scaling.type" is "su"; supported are`:                                     key("llama.rope.scaling.type", "su"),
		`key "llama.rope.scaling.factor" is 0.5; expected 1 or more`:                               key("llama.rope.scaling.factor", float32(0.5)),
		`key "llama.rope.scaling.yarn_beta_fast" is 9; only 32`:                                    func(f *file) { f.scaling("yarn", 2); f.keys["llama.rope.scaling.yarn_beta_fast"] = float32(9) },
		`tensor "rope_freqs.weight" together with yarn`:                                            func(f *file) { f.scaling("yarn", 2); f.factors("rope_freqs.weight", 1, 1) },
		`tensor "rope_freqs.weight" has 0 at index 1`:                                              func(f *file) { f.factors("rope_freqs.weight", 1, 0) },
		`tensor "rope_factors_long.weight" or "rope_factors_short.weight" is missing`:              func(f *file) { f.scaling("longrope", 1) },
		`tensor "token_embd.weight" is missing`:                                                    func(f *file) { f.tensor("token_embd.weight").Name = "x" },
		`tensor "blk.0.ffn_up.weight" is missing`:                                                  func(f *file) { f.tensor("blk.0.ffn_up.weight").Name = "x" },
		`tensor "blk.0.attn_q_norm.weight" is not part of the llama model`:                         func(f *file) { f.add("blk.0.attn_q_norm.weight", 4) },
		`tensor "blk.0.attn_q.weight" has shape [6 8]; the keys of the file require [8 8]`:         func(f *file) { f.tensor("blk.0.attn_q.weight").Shape[0] = 6 },
		`tensor "blk.0.attn_q.weight" is I32, which is not supported`:                              func(f *file) { f.tensor("blk.0.attn_q.weight").Type = 26 },
		`key "tokenizer.ggml.eos_token_id" is 260; there are 260 tokens`:                           key("tokenizer.ggml.eos_token_id", uint32(260)),
		`key "tokenizer.ggml.model" is "bert"; supported are gpt2 and llama`:                       key("tokenizer.ggml.model", "bert"),
		`key "tokenizer.ggml.pre" is "deepseek-llm", a pre-tokenizer that is not supported`:        key("tokenizer.ggml.pre", "deepseek-llm"),
		`key "tokenizer.ggml.pre" is missing`:                                                      func(f *file) { delete(f.keys, "tokenizer.ggml.pre") },
		`key "tokenizer.ggml.merges" is missing`:                                                   func(f *file) { delete(f.keys, "tokenizer.ggml.merges") },
		`key "tokenizer.ggml.merges" has element 0, which is not a pair`:                           key("tokenizer.ggml.merges", []string{"th"}),
		`model has an invalid merge: number 0, "t" with "x", needs "tx"`:                           key("tokenizer.ggml.merges", []string{"t x"}),
		`key "tokenizer.ggml.token_type" has 2 elements; there are 260`:                            key("tokenizer.ggml.token_type", []int32{1, 1}),
		`model has the duplicate token "a"`:                                                        func(f *file) { f.keys["tokenizer.ggml.tokens"].([]string)[256] = "a" },
		`key "tokenizer.ggml.scores" is missing`:                                                   func(f *file) { f.sentencePiece(); delete(f.keys, "tokenizer.ggml.scores") },
		`key "tokenizer.ggml.scores" is -2 for both "the" and "▁the", so that the order of merges`: func(f *file) { f.sentencePiece(); f.keys["tokenizer.ggml.scores"].([]float32)[10] = -2 },
		`key "tokenizer.ggml.tokens" has a token of 600 bytes at index 8`: func(f *file) {
			f.sentencePiece()
			f.keys["tokenizer.ggml.tokens"].([]string)[8] = strings.Repeat("h", 600)
		},
		`key "tokenizer.ggml.scores" has NaN at index 4`: func(f *file) { f.sentencePiece(); f.keys["tokenizer.ggml.scores"].([]float32)[4] = float32(math.NaN()) },
	} {
		f := base()
		change(f)
		path := f.write(t)
		m, err := ggufmodel.Open(path)
		if err == nil {
			_, err = m.Tokenizer()
			m.Close()
		}
		var e *fault.Error
		if !errors.As(err, &e) || e.Kind != fault.Input || e.File != path || !strings.Contains(e.Msg, want) {
			t.Errorf("%v, expected %s", err, want)
		}
	}
}
