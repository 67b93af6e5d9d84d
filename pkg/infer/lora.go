package infer

import (
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// OpenAdapter reads the adapter in dir and checks that it was trained on this model, by the
// content hash of the artifact's manifest. The hash is that of the weights in memory if
// m.Verified is set; otherwise it is only what manifest.json states. An adapter that names no base, and any adapter
// for a checkpoint, are refused unless allowUnbound is set. Errors are of kind [fault.Input].
func (m *Model) OpenAdapter(dir string, allowUnbound bool) (*adapter.Adapter, error) {
	hash := ""
	if m.Manifest != nil {
		hash = m.Manifest.ContentHash
	}
	return adapter.ReadFor(dir, m.Config, m.Dir, hash, allowUnbound)
}

// WithAdapter returns a model that runs with the adapter. It shares the weights of m, so
// that any number of adapters run on one base in memory. a must have been read for the config
// of m ([Model.OpenAdapter]), or have its shapes.
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

// packAs packs values in a type that represents them exactly.
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
