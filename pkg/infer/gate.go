package infer

import (
	"afmq/internal/kernel"
	"afmq/pkg/model"
)

// gateMul computes the input of down from the outputs of gate and up: SiLU(gate)·up, or GELU(gate)·up.
// dst may be gate.
func gateMul(c *model.Config, dst, gate, up []float32) {
	if c.GELU {
		kernel.GELUMul(dst, gate, up)
		return
	}
	kernel.SiLUMul(dst, gate, up)
}

// gateMulBack replaces gate and up by the gradients with respect to them, given grad, that with respect
// to the result of [gateMul].
func gateMulBack(c *model.Config, gate, up, grad []float32) {
	if c.GELU {
		kernel.GELUMulBack(gate, up, grad)
		return
	}
	kernel.SiLUMulBack(gate, up, grad)
}
