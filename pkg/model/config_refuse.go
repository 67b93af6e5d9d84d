package model

import (
	"slices"

	"afmq/pkg/fault"
)

// refuseExperts refuses a mixture of experts. It is called before model_type is checked, because
// the reason is more helpful than an unsupported model_type.
func refuseExperts(f *fields, modelType string) error {
	for _, key := range []string{"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"} {
		if f.has(key) && string(f.m[key]) != "0" {
			return fault.Inputf(f.file, "%s is a mixture of experts (%s = %s), which is not supported", modelType, key, excerpt(f.m[key]))
		}
	}
	return nil
}

// refuseUnsupported refuses options of a supported family that the engine does not implement.
func refuseUnsupported(f *fields, fam family, c *Config) {
	if fam.gelu {
		const gelu = "gelu_pytorch_tanh"
		if act := f.string("hidden_activation", gelu); act != gelu {
			f.fail("hidden_activation", "is %q; only %s is supported", act, gelu)
		}
	} else if act := f.string("hidden_act", "silu"); act != "silu" && act != "swish" {
		f.fail("hidden_act", "is %q; only silu is supported", act)
	}
	if f.bool("use_bidirectional_attention", false) {
		f.fail("use_bidirectional_attention", "is true; only causal attention is supported")
	}
	if classes := f.strings("architectures"); len(classes) > 0 && !slices.Contains(classes, fam.class) {
		f.fail("architectures", "is %q; a %s language model is %q", classes, c.ModelType, fam.class)
	}
}
