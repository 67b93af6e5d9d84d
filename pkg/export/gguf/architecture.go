package gguf

import (
	"fmt"

	"afmq/pkg/fault"
	file "afmq/pkg/gguf"
	"afmq/pkg/model"
)

// architecture is how llama.cpp runs a model family: what its graph has
// (src/models/NAME.cpp in llama.cpp).
type architecture struct {
	name string // general.architecture
	// interleaved is set if the rotary embedding rotates neighbouring dimensions. A checkpoint
	// has the two halves of each head, so the rows of q and k are reordered.
	interleaved bool
	ropeFactors bool // rope_freqs.weight, rope_factors_long.weight and rope_factors_short.weight
	outputBias  bool // attn_output.bias
	wideHeads   bool // heads whose dimensions do not add up to the hidden size
}

var (
	llama = architecture{name: "llama", interleaved: true, ropeFactors: true, outputBias: true, wideHeads: true}
	qwen2 = architecture{name: "qwen2"}
	qwen3 = architecture{name: "qwen3", wideHeads: true}
)

// architectures has the architecture of each model family.
var architectures = map[string]architecture{"llama": llama, "mistral": llama, "qwen2": qwen2, "qwen3": qwen3}

// checkModel checks that llama.cpp has everything that the model uses in a context of that many
// tokens.
func (e *exporter) checkModel() error {
	c := e.s.Config
	arch, ok := architectures[c.ModelType]
	if !ok {
		return fault.Infeasiblef("%s: llama.cpp's architecture for %s models is not known", e.Artifact, c.ModelType)
	}
	e.arch = arch
	switch {
	case c.OBias && !arch.outputBias:
		return e.lacks("a bias of o_proj (attention_bias)")
	case c.Heads*c.HeadDim != c.HiddenSize && !arch.wideHeads:
		return e.lacks(fmt.Sprintf("%d heads of %d in a hidden size of %d", c.Heads, c.HeadDim, c.HiddenSize))
	case e.Context > c.MaxPositions:
		return fault.Usagef("a context of %d is longer than the model's %d positions (max_position_embeddings)", e.Context, c.MaxPositions)
	case c.SlidingWindow > 0 && c.SlidingWindow < e.Context:
		return e.lacks(fmt.Sprintf("a sliding window (%d of %d tokens in %d layers)", c.SlidingWindow, e.Context, c.SlidingLayers())).
			WithHint("with --ctx %d the window holds the whole context and makes no difference", c.SlidingWindow)
	case c.Rope.Type == "longrope" && c.Rope.Regime(1) != c.Rope.Regime(e.Context):
		return fault.Infeasiblef("%s: llama.cpp chooses the factors of longrope by the size of the context, the model by the length of the text", e.Artifact).
			WithHint("--ctx %d is the longest context in which both agree", c.Rope.OriginalPositions)
	}
	return nil
}

// lacks returns the error for what the architecture of llama.cpp does not have.
func (e *exporter) lacks(what string) *fault.Error {
	return fault.Infeasiblef("%s: llama.cpp's architecture %s does not have %s", e.Artifact, e.arch.name, what)
}

// hyperparameters returns the keys of the architecture, without those of the rotary embedding's
// scaling.
func (e *exporter) hyperparameters() []file.KV {
	c := e.s.Config
	kv := func(key string, value any) file.KV { return file.KV{Key: e.arch.name + "." + key, Value: value} }
	return []file.KV{
		kv("context_length", uint32(e.Context)),
		kv("embedding_length", uint32(c.HiddenSize)),
		kv("block_count", uint32(c.Layers)),
		kv("feed_forward_length", uint32(c.IntermediateSize)),
		kv("attention.head_count", uint32(c.Heads)),
		kv("attention.head_count_kv", uint32(c.KVHeads)),
		kv("attention.key_length", uint32(c.HeadDim)),
		kv("attention.value_length", uint32(c.HeadDim)),
		kv("attention.layer_norm_rms_epsilon", float32(c.RMSNormEps)),
		kv("vocab_size", uint32(c.VocabSize)),
		kv("rope.dimension_count", uint32(c.HeadDim)),
		kv("rope.freq_base", float32(c.Rope.Theta)),
	}
}

// moduleNames are llama.cpp's names for the modules of a layer, by kind.
var moduleNames = map[string]string{
	"input_layernorm": "attn_norm", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v",
	"q_norm": "attn_q_norm", "k_norm": "attn_k_norm", "o_proj": "attn_output",
	"post_attention_layernorm": "ffn_norm", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
}

// tensorName returns llama.cpp's name of a tensor.
func tensorName(s model.TensorSpec) string {
	switch s.Role {
	case model.Embedding:
		return "token_embd.weight"
	case model.Head:
		return "output.weight"
	}
	if s.Layer < 0 {
		return "output_norm.weight"
	}
	part := ".weight"
	if s.Role == model.Bias {
		part = ".bias"
	}
	return fmt.Sprintf("blk.%d.%s%s", s.Layer, moduleNames[s.Kind], part)
}

// order returns which row of a tensor is row i in the file; nil if the rows keep their order.
//
// In a checkpoint the rotary embedding rotates row j of a head with row j + head_dim/2; in an
// interleaved architecture, row 2j with row 2j+1.
func (e *exporter) order(s model.TensorSpec) func(i int) int {
	if !e.arch.interleaved || s.Kind != "q_proj" && s.Kind != "k_proj" {
		return nil
	}
	dim := e.s.Config.HeadDim
	return func(i int) int {
		head, at := i/dim, i%dim
		return head*dim + at%2*(dim/2) + at/2
	}
}
