package model

import "sort"

// family is what distinguishes the supported model families from one another:
// the rest (pre-norm RMSNorm, rotary embedding, SwiGLU, grouped-query attention)
// they share. The defaults are those that the family's config class in Hugging
// Face transformers 5 gives to keys that a config.json may lack.
type family struct {
	class     string // the architecture's name in config.json
	qkvBias   bool   // q, k and v always have a bias
	attnBias  bool   // attention_bias gives q, k, v and o a bias
	mlpBias   bool   // mlp_bias gives gate, up and down a bias
	qkNorm    bool   // RMSNorm over each head of q and k
	window    windowRule
	kvHeads   int // default of num_key_value_heads; 0: as many as there are heads
	headDim   int // default of head_dim; 0: hidden_size / num_attention_heads
	positions int // default of max_position_embeddings
	// theta is the default base of the rotary embedding, 0 for none. The Qwen
	// classes would take 10,000, but no published Qwen checkpoint uses that and
	// all of them state their own, so that a file without it is a broken one.
	theta float64
}

// windowRule says which layers of a family attend to a sliding window, as the config
// classes and models of transformers 5 have it.
type windowRule uint8

const (
	noWindow      windowRule = iota // no layer
	mistralWindow                   // layer_types, or all layers; none if sliding_window is null
	qwenWindow                      // layer_types, or those from max_window_layers on; none without use_sliding_window
)

var families = map[string]family{
	"llama":   {class: "LlamaForCausalLM", attnBias: true, mlpBias: true, positions: 2048, theta: 10_000},
	"mistral": {class: "MistralForCausalLM", window: mistralWindow, kvHeads: 8, positions: 131_072, theta: 10_000},
	"qwen2":   {class: "Qwen2ForCausalLM", qkvBias: true, window: qwenWindow, kvHeads: 32, positions: 32_768},
	"qwen3":   {class: "Qwen3ForCausalLM", attnBias: true, qkNorm: true, window: qwenWindow, kvHeads: 32, headDim: 128, positions: 32_768},
}

// Families returns the supported values of model_type, sorted.
func Families() []string {
	names := make([]string, 0, len(families))
	for name := range families {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
