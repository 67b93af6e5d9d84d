package model

import (
	"sort"
	"strings"

	"afmq/pkg/fault"
)

// family has the differences between the supported model families. They share RMSNorm, rotary
// embedding, a gated feed-forward network and grouped-query attention. The defaults, for keys that are missing
// in config.json, are those of the family's config class in Hugging Face transformers 5.
type family struct {
	class      string // the architecture's name in config.json
	qkvBias    bool   // q, k and v always have a bias
	attnBias   bool   // attention_bias gives q, k, v and o a bias
	mlpBias    bool   // mlp_bias gives gate, up and down a bias
	fused      bool   // q, k and v are one matrix, and so are gate and up
	norms      NormPlacement
	qkNorm     bool    // RMSNorm over each head of q and k
	qkNormAll  bool    // over all heads of q at once, and over all of k
	eps        float64 // default of rms_norm_eps; 0: 1e-6
	normOffset float64 // added to the stored weights of norms
	gelu       bool    // hidden_activation is gelu_pytorch_tanh, where others have silu as hidden_act
	noRope     bool    // no_rope_layers and no_rope_layer_interval
	tied       bool    // default of tie_word_embeddings
	scales     scaleRule
	window     windowRule
	pattern    int // of patternWindow
	length     int // default of sliding_window; 0: null
	kvHeads    int // default of num_key_value_heads; 0: as many as there are heads
	headDim    int // default of head_dim; 0: hidden_size / num_attention_heads
	positions  int // default of max_position_embeddings
	// theta is the default base of the rotary embedding; 0 for none. The Qwen classes default
	// to 10,000, but every published Qwen checkpoint states its base, and none has that one: a
	// file without it is damaged.
	theta float64
	// original says that a part of each head may be rotated (partial_rotary_factor), that the only
	// scaling is longrope, and what the length of the original training is by default; 0: not so.
	original int
	// ropes says that layers with a sliding window have a rotary embedding of their own, whose base
	// is slidingTheta by default.
	ropes        bool
	slidingTheta float64
	// localKeys says that older files have the pattern in sliding_window_pattern and the base of these
	// layers in rope_local_base_freq.
	localKeys bool
}

func (fam family) epsilon() float64 {
	if fam.eps == 0 {
		return 1e-6
	}
	return fam.eps
}

// windowRule says which layers of a family have a sliding window, as in the config classes and
// models of transformers 5.
type windowRule uint8

const (
	noWindow      windowRule = iota // no layer
	mistralWindow                   // layer_types, or all layers; none if sliding_window is null
	phiWindow                       // all layers; none if sliding_window is null
	qwenWindow                      // layer_types, or those from max_window_layers on; none without use_sliding_window
	patternWindow                   // layer_types, or all but every layer at a multiple of pattern
	smolWindow                      // layer_types, or those without rotary embedding; none without use_sliding_window
)

var families = map[string]family{
	"llama":   {class: "LlamaForCausalLM", attnBias: true, mlpBias: true, positions: 2048, theta: 10_000},
	"mistral": {class: "MistralForCausalLM", window: mistralWindow, length: 4096, kvHeads: 8, positions: 131_072, theta: 10_000},
	"qwen2":   {class: "Qwen2ForCausalLM", qkvBias: true, window: qwenWindow, length: 4096, kvHeads: 32, positions: 32_768},
	"qwen3":   {class: "Qwen3ForCausalLM", attnBias: true, qkNorm: true, window: qwenWindow, length: 4096, kvHeads: 32, headDim: 128, positions: 32_768},
	"granite": {class: "GraniteForCausalLM", attnBias: true, mlpBias: true, scales: graniteScales, positions: 2048, theta: 10_000},
	"gemma2": {class: "Gemma2ForCausalLM", attnBias: true, norms: SandwichNorm, normOffset: 1, gelu: true, tied: true, scales: gemma2Scales,
		window: patternWindow, pattern: 2, length: 4096, kvHeads: 4, headDim: 256, positions: 8192, theta: 10_000},
	"gemma3_text": {class: "Gemma3ForCausalLM", attnBias: true, norms: SandwichNorm, qkNorm: true, normOffset: 1, gelu: true, tied: true, scales: gemma3Scales,
		window: patternWindow, pattern: 6, length: 4096, kvHeads: 4, headDim: 256, positions: 131_072,
		theta: 1_000_000, ropes: true, slidingTheta: 10_000, localKeys: true},
	"olmo2": {class: "Olmo2ForCausalLM", attnBias: true, norms: PostNorm, qkNorm: true, qkNormAll: true, eps: 1e-5, positions: 2048, theta: 10_000},
	"olmo3": {class: "Olmo3ForCausalLM", attnBias: true, norms: PostNorm, qkNorm: true, qkNormAll: true, eps: 1e-5,
		window: patternWindow, pattern: 4, length: 4096, ropes: true, slidingTheta: 500_000, positions: 2048, theta: 500_000},
	"phi3":    {class: "Phi3ForCausalLM", fused: true, eps: 1e-5, window: phiWindow, positions: 4096, original: 4096, theta: 10_000},
	"smollm3": {class: "SmolLM3ForCausalLM", attnBias: true, mlpBias: true, noRope: true, tied: true, window: smolWindow, kvHeads: 4, positions: 32_768, theta: 2_000_000},
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

// unknownFamily returns the error for a model_type that is not supported. Its hint is the family whose
// name has the longest beginning in common, if that is more than chance.
func unknownFamily(file, modelType string) error {
	err := fault.Inputf(file, "model_type %q is not supported; supported are %s", modelType, strings.Join(Families(), ", "))
	nearest, most := "", 2
	for _, name := range Families() {
		n := 0
		for n < min(len(name), len(modelType)) && name[n] == modelType[n] {
			n++
		}
		if n > most {
			nearest, most = name, n
		}
	}
	if nearest == "" {
		return err
	}
	return err.WithHint("the nearest supported family is %s", nearest)
}
