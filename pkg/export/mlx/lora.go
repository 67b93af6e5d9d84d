package mlx

import (
	"slices"
	"strings"

	"afmq/pkg/export/internal/directory"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// The files of an adapter of mlx-lm (mlx_lm/tuner/utils.py, load_adapters).
const (
	adapterWeights = "adapters.safetensors"
	adapterConfig  = "adapter_config.json"
)

// adapter returns the directory of an adapter. mlx-lm adds scale·(x·lora_a)·lora_b to the result of
// a module, with lora_a [in, rank] and lora_b [rank, out] (mlx_lm/tuner/lora.py, LoRALinear); rank
// and scale are the same for all modules.
func (e *exporter) adapter(i int) directory.Adapter {
	a, u := e.adapters[i], e.unified[i]
	var tensors []directory.Tensor
	for _, spec := range e.s.Config.Tensors() {
		w, ok := u.Modules[spec.Module()]
		if !ok || spec.Role != model.Projection {
			continue
		}
		out, in := spec.Shape[0], spec.Shape[1]
		tensors = append(tensors,
			matrix(spec.Module()+".lora_a", u.Type, w.A, u.Rank, in),
			matrix(spec.Module()+".lora_b", u.Type, w.B, out, u.Rank))
	}
	metadata := map[string]string{"format": "mlx", "afmq.base.content_hash": e.s.Manifest.ContentHash, "afmq.adapter.sha256": a.Digest}
	if e.ToolVersion != "" {
		metadata["afmq.version"] = e.ToolVersion
	}
	parameters, config := &directory.Object{}, &directory.Object{}
	parameters.Set("rank", u.Rank)
	parameters.Set("scale", directory.Float(u.Scale))
	parameters.Set("dropout", directory.Float(0))
	parameters.Set("keys", e.keys(a.Config.Modules))
	config.Set("fine_tune_type", "lora")
	config.Set("num_layers", e.s.Config.Layers)
	config.Set("lora_parameters", parameters)
	return directory.Adapter{
		Name: a.Name, File: adapterWeights, Weights: directory.Weights{Tensors: tensors, Metadata: metadata},
		ConfigFile: adapterConfig, Config: config.Encode(),
	}
}

// keys returns the names of the adapted modules: those within a layer, if all layers have the same,
// else the whole ones.
func (e *exporter) keys(modules []string) []string {
	counts := map[string]int{}
	var within []string
	for _, m := range modules {
		part := strings.SplitN(m, ".", 4) // model, layers, number, rest
		name := part[len(part)-1]
		if counts[name]++; counts[name] == 1 {
			within = append(within, name)
		}
	}
	for _, n := range counts {
		if n != e.s.Config.Layers {
			return slices.Clone(modules)
		}
	}
	return within
}

// matrix returns a tensor with the transpose of x [rows, cols].
func matrix(name string, t safetensors.DType, x []float32, rows, cols int) directory.Tensor {
	info := safetensors.Info{Name: name, DType: t, Shape: []int{cols, rows}}
	return directory.Matrix(info, func() []float32 { return directory.Transpose(x, rows, cols) })
}
