package gguf

import (
	"fmt"

	"afmq/pkg/fault"
	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
)

// checkModel checks that llama.cpp has everything that the model uses in a context of that many
// tokens.
func (e *exporter) checkModel() error {
	c := e.s.Config
	arch, ok := ggufmodel.ArchitectureOf(c.ModelType)
	if !ok {
		return fault.Infeasiblef("%s: llama.cpp's architecture for %s models is not known", e.Artifact, c.ModelType)
	}
	e.arch = arch
	switch {
	case c.OBias && !arch.OutputBias:
		return e.lacks("a bias of o_proj (attention_bias)")
	case c.Heads*c.HeadDim != c.HiddenSize && !arch.WideHeads:
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
	return fault.Infeasiblef("%s: llama.cpp's architecture %s does not have %s", e.Artifact, e.arch.Name, what)
}

// hyperparameters returns the keys of the architecture, without those of the rotary embedding's
// scaling.
func (e *exporter) hyperparameters() []file.KV {
	c := e.s.Config
	kv := func(key string, value any) file.KV { return file.KV{Key: e.arch.Name + "." + key, Value: value} }
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
