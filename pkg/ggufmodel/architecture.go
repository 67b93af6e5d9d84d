package ggufmodel

import (
	"fmt"
	"slices"
	"strings"

	"afmq/pkg/model"
)

// Architecture is how llama.cpp runs a model family: what its graph has (src/models/NAME.cpp in
// llama.cpp).
type Architecture struct {
	Name string // general.architecture
	// Interleaved is set if the rotary embedding rotates neighbouring dimensions. A checkpoint
	// has the two halves of each head, so the rows of q and k are reordered.
	Interleaved bool
	RopeFactors bool // rope_freqs.weight, rope_factors_long.weight and rope_factors_short.weight
	OutputBias  bool // attn_output.bias
	MLPBias     bool // ffn_gate.bias, ffn_up.bias and ffn_down.bias
	QKNorm      bool // attn_q_norm.weight and attn_k_norm.weight
	WideHeads   bool // heads whose dimensions do not add up to the hidden size

	family string // model_type of a model that a file has
}

var architectures = []Architecture{
	{Name: "llama", Interleaved: true, RopeFactors: true, OutputBias: true, MLPBias: true, WideHeads: true, family: "llama"},
	{Name: "qwen2", family: "qwen2"},
	{Name: "qwen3", QKNorm: true, WideHeads: true, family: "qwen3"},
}

// ofFamily has the architecture of each model family.
var ofFamily = map[string]string{"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}

// ArchitectureOf returns the architecture of a model family (model_type), or false if none is
// known.
func ArchitectureOf(family string) (Architecture, bool) { return architectureNamed(ofFamily[family]) }

// architectureNamed returns the architecture of a file, or false if it is not supported.
func architectureNamed(name string) (Architecture, bool) {
	i := slices.IndexFunc(architectures, func(a Architecture) bool { return a.Name == name })
	if i < 0 {
		return Architecture{}, false
	}
	return architectures[i], true
}

// architectureNames lists the supported architectures.
func architectureNames() string {
	var names []string
	for _, a := range architectures {
		names = append(names, a.Name)
	}
	return strings.Join(names, ", ")
}

// moduleNames are llama.cpp's names for the modules of a layer, by kind.
var moduleNames = map[string]string{
	"input_layernorm": "attn_norm", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v",
	"q_norm": "attn_q_norm", "k_norm": "attn_k_norm", "o_proj": "attn_output",
	"post_attention_layernorm": "ffn_norm", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
}

// Names of tensors outside the layers.
const (
	embeddingName = "token_embd.weight"
	headName      = "output.weight"
	finalNormName = "output_norm.weight"
)

// Names of the tensors of factors of the rotary embedding, [head_dim/2]: the frequencies of the base
// are divided by them.
const (
	RopeFreqs        = "rope_freqs.weight"
	RopeFactorsLong  = "rope_factors_long.weight"  // longrope, beyond the original context
	RopeFactorsShort = "rope_factors_short.weight" // longrope, up to it
)

// TensorName returns llama.cpp's name of a tensor.
func TensorName(s model.TensorSpec) string {
	switch s.Role {
	case model.Embedding:
		return embeddingName
	case model.Head:
		return headName
	}
	if s.Layer < 0 {
		return finalNormName
	}
	part := ".weight"
	if s.Role == model.Bias {
		part = ".bias"
	}
	return layerTensor(s.Layer, moduleNames[s.Kind]+part)
}

// layerTensor returns the name of a tensor of a layer.
func layerTensor(layer int, name string) string { return fmt.Sprintf("blk.%d.%s", layer, name) }

// reorders reports whether the rows of a tensor have another order in the file.
func (a *Architecture) reorders(s model.TensorSpec) bool {
	return a.Interleaved && (s.Kind == "q_proj" || s.Kind == "k_proj")
}

// CheckpointRow returns which row of a checkpoint's tensor is row i of the file's; nil if the rows
// keep their order.
//
// In a checkpoint the rotary embedding rotates row j of a head with row j + headDim/2; in an
// interleaved architecture, row 2j with row 2j+1.
func (a *Architecture) CheckpointRow(s model.TensorSpec, headDim int) func(i int) int {
	if !a.reorders(s) {
		return nil
	}
	return func(i int) int {
		head, at := i/headDim, i%headDim
		return head*headDim + at%2*(headDim/2) + at/2
	}
}

// FileRow is the inverse of [Architecture.CheckpointRow]: which row of the file's tensor is row i
// of the checkpoint's; nil if the rows keep their order.
func (a *Architecture) FileRow(s model.TensorSpec, headDim int) func(i int) int {
	if !a.reorders(s) {
		return nil
	}
	return func(i int) int {
		head, at := i/headDim, i%headDim
		return head*headDim + at%(headDim/2)*2 + at/(headDim/2)
	}
}
