package artifact

import (
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// PaletteSource returns the elements of an F16, BF16 or F32 tensor as views of the mapped file.
func PaletteSource(t *safetensors.Tensor) (src palettize.Source, err error) {
	switch t.DType {
	case safetensors.F16:
		src.F16, err = safetensors.View[uint16](t)
	case safetensors.BF16:
		src.BF16, err = safetensors.View[uint16](t)
	default:
		src.F32, err = safetensors.View[float32](t)
	}
	return src, err
}
