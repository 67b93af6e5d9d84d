package safetensors

import (
	"math"
	"strings"

	"afmq/pkg/fault"
)

// FloatTypes are the element types that hold the weights of a model.
func FloatTypes() []DType { return []DType{F16, BF16, F32} }

// DTypeNames joins the names of element types for a message: "F16, BF16, F32".
func DTypeNames(types []DType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.String()
	}
	return strings.Join(names, ", ")
}

// CheckFinite returns an error, fault.Input, that names the first value of an F16, BF16 or
// F32 tensor that is NaN or infinite.
func (t *Tensor) CheckFinite() error {
	var block [4096]float32
	for at, n := 0, t.NumElements(); at < n; at += len(block) {
		part := block[:min(len(block), n-at)]
		if err := t.Float32(part, at); err != nil {
			return err
		}
		for i, v := range part {
			if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
				return fault.Inputf(t.Path(), "tensor %q holds %v at index %d", t.Name, v, at+i)
			}
		}
	}
	return nil
}
