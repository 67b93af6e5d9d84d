package infer

import (
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// LowRank is what a LoRA adapter adds to one projection W [out, in]: the product
// Scale·B·A (Hu et al. 2021, arXiv:2106.09685). It is never merged into W.
type LowRank struct {
	A     *compute.Matrix // [rank, in]
	B     *compute.Matrix // [out, rank]
	Scale float32
}

// Rank returns the rank of the product.
func (l *LowRank) Rank() int { return l.A.Rows() }

// WithAdapter returns a model that runs with the adapter: the same weights in memory,
// so that any number of adapters share one base and switching costs nothing. The
// adapter is one that [ReadAdapter] read for this model's config, or one of its shape.
func (m *Model) WithAdapter(a *adapter.Adapter) *Model {
	c := *m
	c.Blocks = slices.Clone(m.Blocks)
	for _, spec := range m.Config.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		var l *LowRank
		if w, ok := a.Modules[spec.Module()]; ok {
			out, in, rank := spec.Shape[0], spec.Shape[1], a.Config.RankOf(spec.Module())
			l = &LowRank{A: packAs(rank, in, w.A, w.DType), B: packAs(out, rank, w.B, w.DType), Scale: a.Config.ScaleOf(spec.Module())}
		}
		c.Blocks[spec.Layer].Linear(spec.Kind).Adapter = l
	}
	return &c
}

// packAs packs values that a type holds exactly in that type.
func packAs(rows, cols int, v []float32, dtype safetensors.DType) *compute.Matrix {
	bits := make([]uint16, len(v))
	switch dtype {
	case safetensors.F16:
		kernel.F32ToF16(bits, v)
		return compute.PackF16(rows, cols, bits)
	case safetensors.BF16:
		kernel.F32ToBF16(bits, v)
		return compute.PackBF16(rows, cols, bits)
	}
	return compute.PackF32(rows, cols, v)
}
