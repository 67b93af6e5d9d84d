package target_test

import (
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/export/target"
	"afmq/pkg/model"
)

// A model of which one module has a width that Core AI does not have.
func Example() {
	cfg, err := model.LoadConfig("../../../internal/demo/model")
	if err != nil {
		panic(err)
	}
	ios, err := target.Named("coreai-ios")
	if err != nil {
		panic(err)
	}
	violations := ios.Violations(cfg, 16, func(spec model.TensorSpec) (artifact.Form, int) {
		switch {
		case spec.Kind == "down_proj" && spec.Layer == 3:
			return artifact.Palette, 5
		case spec.Role == model.Projection:
			return artifact.Palette, 4
		}
		return artifact.RowInt8, 8
	})
	for _, v := range violations {
		fmt.Println(v.Module, v.Problem)
	}
	// Output: model.layers.3.mlp.down_proj has 5-bit indices; Core AI has palettes of 1, 2, 3, 4, 6 and 8 bits
}
