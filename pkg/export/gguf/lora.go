package gguf

import (
	"math"

	"afmq/pkg/ggml"
	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// Suffixes of the two matrices of an adapted tensor.
const (
	loraA = ".lora_a" // [rank, in]
	loraB = ".lora_b" // [out, rank]
)

// adapterTensors returns the tensors of an adapter's file and adapter.lora.alpha. llama.cpp adds
// alpha/rank·B·A for every module. Where the modules of an adapter do not agree on alpha, it is 0,
// which llama.cpp reads as a scale of 1, and B holds the scale.
func (e *exporter) adapterTensors(a *Adapter) (tensors []tensor, alpha float32) {
	c := &a.open.Config
	alpha, common := commonAlpha(a)
	for _, spec := range e.s.Config.Tensors() {
		w, ok := a.open.Modules[spec.Module()]
		if !ok || spec.Role != model.Projection {
			continue
		}
		rank, name := c.RankOf(spec.Module()), ggufmodel.TensorName(spec)
		t := ggml.F32
		if w.DType == safetensors.F16 && common {
			t = ggml.F16
		}
		b := w.B
		if !common {
			scale := c.ScaleOf(spec.Module())
			b = make([]float32, len(w.B))
			for i, x := range w.B {
				b[i] = x * scale
			}
		}
		tensors = append(tensors, plainTensor(name+loraA, t, []int{rank, spec.Shape[1]}, w.A))
		last := plainTensor(name+loraB, t, []int{spec.Shape[0], rank}, b)
		last.rows = reordered(last.rows, e.arch.CheckpointRow(spec, e.s.Config.HeadDim), last.rowBytes)
		tensors = append(tensors, last)
	}
	return tensors, alpha
}

// commonAlpha returns the alpha with which alpha/rank is the scale of every module of an adapter,
// or false.
func commonAlpha(a *Adapter) (alpha float32, ok bool) {
	c := &a.open.Config
	for i, m := range c.Modules {
		of, ranked := c.Alphas[m]
		if !ranked {
			of = c.Alpha
		}
		if c.RSLoRA {
			of *= math.Sqrt(float64(c.RankOf(m)))
		}
		if x := float32(of); i == 0 {
			alpha = x
		} else if x != alpha {
			return 0, false
		}
	}
	return alpha, alpha != 0
}

// adapterMetadata returns the keys of an adapter's file.
func (e *exporter) adapterMetadata(a *Adapter, alpha float32) []file.KV {
	kvs := []file.KV{
		{Key: "general.architecture", Value: e.arch.Name},
		{Key: "general.type", Value: "adapter"},
		{Key: "general.name", Value: e.Name + "-" + a.Name},
		{Key: "adapter.type", Value: "lora"},
		{Key: "adapter.lora.alpha", Value: alpha},
		{Key: "afmq.base.content_hash", Value: e.s.Manifest.ContentHash},
		{Key: "afmq.adapter.sha256", Value: a.open.Digest},
	}
	return e.withVersion(kvs)
}
