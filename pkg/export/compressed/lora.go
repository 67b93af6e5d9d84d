package compressed

import (
	"afmq/pkg/adapter"
	"afmq/pkg/export/internal/directory"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// adapter returns the directory of an adapter. vLLM reads neither rank_pattern nor alpha_pattern
// (vllm/lora/peft_helper.py), so all modules have the same rank and alpha.
func (e *exporter) adapter(a *source.Adapter) directory.Adapter {
	u, config := directory.Unify(a.Adapter), a.Config
	if len(config.Ranks) > 0 || len(config.Alphas) > 0 {
		config = adapter.Config{Rank: u.Rank, Alpha: u.Scale * float64(u.Rank), Modules: config.Modules}
	}
	e.ranks = append(e.ranks, u.Rank)
	var tensors []directory.Tensor
	for _, spec := range e.s.Config.Tensors() {
		w, ok := u.Modules[spec.Module()]
		if !ok || spec.Role != model.Projection {
			continue
		}
		nameA, nameB := adapter.TensorNames(spec.Module())
		tensors = append(tensors,
			directory.Matrix(safetensors.Info{Name: nameA, DType: u.Type, Shape: []int{u.Rank, spec.Shape[1]}}, func() []float32 { return w.A }),
			directory.Matrix(safetensors.Info{Name: nameB, DType: u.Type, Shape: []int{spec.Shape[0], u.Rank}}, func() []float32 { return w.B }))
	}
	metadata := map[string]string{"format": "pt", adapter.BaseKey: e.s.Manifest.ContentHash, "afmq.adapter.sha256": a.Digest}
	if e.ToolVersion != "" {
		metadata["afmq.version"] = e.ToolVersion
	}
	return directory.Adapter{
		Name: a.Name, File: adapter.WeightsFile, Weights: directory.Weights{Tensors: tensors, Metadata: metadata},
		ConfigFile: adapter.ConfigFile, Config: config.Encode(e.s.Config),
	}
}
