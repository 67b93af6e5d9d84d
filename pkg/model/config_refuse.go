package model

import (
	"slices"

	"afmq/pkg/fault"
)

// refuseExperts refuses a mixture of experts, before the question whether its
// model_type is known: that would not tell people what is missing.
func refuseExperts(f *fields, modelType string) error {
	for _, key := range []string{"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"} {
		if f.has(key) && string(f.m[key]) != "0" {
			return fault.Inputf(f.file, "%s is a mixture of experts (%s = %s), which is not supported", modelType, key, excerpt(f.m[key]))
		}
	}
	return nil
}

// refuseUnsupported refuses what a config of a supported family can ask for and
// the engine does not do.
func refuseUnsupported(f *fields, fam family, c *Config) {
	if act := f.string("hidden_act", "silu"); act != "silu" && act != "swish" {
		f.fail("hidden_act", "is %q; only silu is supported", act)
	}
	if classes := f.strings("architectures"); len(classes) > 0 && !slices.Contains(classes, fam.class) {
		f.fail("architectures", "is %q; a %s language model is %q", classes, c.ModelType, fam.class)
	}
	refuseWindow(f, fam, c)
}

// refuseWindow refuses a sliding window that some layer uses and that is shorter
// than the longest text the model may see; a longer one changes nothing.
func refuseWindow(f *fields, fam family, c *Config) {
	const defaultWindow = 4096 // of the Mistral and Qwen classes
	def := 0                   // 0: none
	if fam.window != noWindow && !f.isNull("sliding_window") {
		def = defaultWindow
	}
	window := f.int("sliding_window", def, 0, maxLength)
	if f.err != nil || window == 0 || window >= c.MaxPositions {
		return
	}
	layer := -1 // the first one that uses it
	if f.has("layer_types") {
		for i, t := range f.strings("layer_types") {
			switch t {
			case "full_attention":
			case "sliding_attention":
				if layer < 0 {
					layer = i
				}
			default:
				f.fail("layer_types", "has %q for layer %d, which is not supported", t, i)
			}
		}
	} else {
		switch fam.window {
		case mistralWindow:
			layer = 0
		case qwenWindow:
			if first := f.int("max_window_layers", 28, 0, maxLength); f.bool("use_sliding_window", false) && first < c.Layers {
				layer = first
			}
		}
	}
	if layer >= 0 {
		f.fail("sliding_window", "is %d, shorter than max_position_embeddings (%d), and layer %d uses it; sliding-window attention is not supported", window, c.MaxPositions, layer)
	}
}
