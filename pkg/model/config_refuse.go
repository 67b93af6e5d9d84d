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
}
