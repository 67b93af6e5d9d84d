package ggufmodel

import (
	"slices"

	"afmq/pkg/fault"
	"afmq/pkg/gguf"
	"afmq/pkg/model"
)

// Bounds far beyond any model, so that no product of sizes overflows.
const (
	maxLayers = 4096
	maxHeads  = 1 << 14
	maxExtent = 1 << 24
	maxLength = 1 << 30
)

// refuseFile refuses files that are no model, or a part of one.
func refuseFile(f *gguf.File) error {
	k := &keys{file: f}
	kind := k.string("general.type", "model")
	parts := k.int("split.count", 1, 0, maxLength)
	switch {
	case k.err != nil:
		return k.err
	case kind == "adapter":
		return fault.Inputf(f.Path(), "is an adapter, not a model").WithHint("--adapter takes an adapter in PEFT's format, which `afmq export` converts")
	case kind != "model":
		return fault.Inputf(f.Path(), "holds a %q (general.type), not a model", kind)
	case parts > 1:
		return fault.Inputf(f.Path(), "is one of %d parts of a split file", parts).
			WithHint("llama-gguf-split --merge FIRST-PART OUT.gguf of llama.cpp joins them")
	}
	return nil
}

// readConfig reads the config from the keys and the presence of tensors.
func readConfig(f *gguf.File) (*model.Config, Architecture, error) {
	if err := refuseFile(f); err != nil {
		return nil, Architecture{}, err
	}
	name, err := gguf.Get[string](f, "general.architecture")
	if err != nil {
		return nil, Architecture{}, err
	}
	arch, ok := architectureNamed(name)
	if !ok {
		return nil, arch, fault.Inputf(f.Path(), "architecture %q is not supported; supported are %s", name, architectureNames())
	}
	k := &keys{file: f, prefix: name + "."}
	c := &model.Config{ModelType: arch.family, QKNorm: arch.QKNorm}
	readSizes(k, c)
	refuseOptions(k, c)
	has := func(name string) bool { _, ok := f.Tensor(name); return ok }
	c.TieEmbeddings = !has(headName)
	c.QKVBias = has(layerTensor(0, "attn_q.bias"))
	c.OBias = arch.OutputBias && has(layerTensor(0, "attn_output.bias"))
	c.MLPBias = arch.MLPBias && has(layerTensor(0, "ffn_up.bias"))
	if k.err != nil {
		return nil, arch, k.err
	}
	if c.Rope, err = readRope(k, c, arch); err != nil {
		return nil, arch, err
	}
	return c, arch, readEnds(f, c)
}

// readSizes reads the sizes of the model and checks that they are consistent.
func readSizes(k *keys, c *model.Config) {
	if e, ok := k.file.Tensor(embeddingName); ok && len(e.Shape) == 2 {
		c.VocabSize = e.Shape[0]
	} else if k.err == nil {
		k.err = fault.Inputf(k.file.Path(), "tensor %q is missing, or is no matrix", embeddingName)
	}
	// Each layer has tensors, so that their number bounds that of the layers.
	c.Layers = k.int("block_count", need, 1, min(maxLayers, max(1, len(k.file.Tensors()))))
	c.HiddenSize = k.int("embedding_length", need, 1, maxExtent)
	c.IntermediateSize = k.each("feed_forward_length", need, 1, maxExtent)
	c.Heads = k.each("attention.head_count", need, 1, maxHeads)
	c.KVHeads = k.each("attention.head_count_kv", c.Heads, 1, maxHeads)
	c.HeadDim = k.int("attention.key_length", c.HiddenSize/c.Heads, 1, maxHeads)
	c.MaxPositions = k.int("context_length", need, 1, maxLength)
	c.RMSNormEps = k.float("attention.layer_norm_rms_epsilon", need)
	switch {
	case k.err != nil:
	case c.VocabSize < 1 || c.VocabSize > maxExtent:
		k.err = fault.Inputf(k.file.Path(), "tensor %q has %d rows; expected 1 to %d", embeddingName, c.VocabSize, maxExtent)
	case c.Heads%c.KVHeads != 0:
		k.fail("attention.head_count", "is %d, which is not a multiple of attention.head_count_kv, %d", c.Heads, c.KVHeads)
	case c.HeadDim%2 != 0:
		k.fail("attention.key_length", "is %d; the rotary embedding needs an even number", c.HeadDim)
	case c.RMSNormEps < 0:
		k.fail("attention.layer_norm_rms_epsilon", "is %v; expected 0 or more", c.RMSNormEps)
	}
	// A window that holds the whole context makes no difference. llama.cpp has none in these
	// architectures, so beyond it the file's model and the one that llama.cpp runs differ.
	if w := k.int("attention.sliding_window", 0, 0, maxLength); w > 0 {
		c.MaxPositions = min(c.MaxPositions, w)
	}
}

// refuseOptions refuses keys that llama.cpp reads for these architectures, with values that the
// engine does not compute.
func refuseOptions(k *keys, c *model.Config) {
	for _, x := range []struct {
		name string
		only int
	}{
		{"attention.value_length", c.HeadDim}, {"rope.dimension_count", c.HeadDim}, {"expert_count", 0}, {"nextn_predict_layers", 0}, {"pooling_type", 0},
	} {
		if n := k.int(x.name, x.only, 0, maxLength); n != x.only {
			k.fail(x.name, "is %d; only %d is supported for this model", n, x.only)
		}
	}
	if !k.bool("attention.causal", true) {
		k.fail("attention.causal", "is false; only causal attention is supported")
	}
}

// readEnds reads the tokens that begin and end a text.
func readEnds(f *gguf.File, c *model.Config) error {
	k := &keys{file: f, prefix: "tokenizer.ggml."}
	if id, ok := k.id("bos_token_id", c.VocabSize); ok {
		c.BOS = []int32{id}
	}
	for _, name := range []string{"eos_token_id", "eot_token_id", "eom_token_id"} {
		if id, ok := k.id(name, c.VocabSize); ok {
			if !slices.Contains(c.EOS, id) {
				c.EOS = append(c.EOS, id)
			}
		}
	}
	return k.err
}
