package compressed

import (
	"path/filepath"
	"slices"
	"strconv"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/directory"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// Values of quantization_config.
const (
	method        = "compressed-tensors"
	format        = "pack-quantized"
	formatVersion = "0.20.1"
	head          = "lm_head"
)

// config returns config.json.
func (e *exporter) config() ([]byte, error) {
	path := filepath.Join(e.s.Dir, artifact.ConfigFile)
	data, err := infile.Read(path, model.MaxConfigBytes)
	if err != nil {
		return nil, err
	}
	o, err := directory.ParseObject(data)
	if err != nil {
		return nil, fault.Inputf(path, "%v", err)
	}
	o.Delete("quantization_config")
	o.SetAny(directory.TypeNames[e.dtype], "dtype", "torch_dtype")
	if len(e.codes) > 0 {
		o.Set("quantization_config", e.quantization())
	}
	return o.Encode(), nil
}

// quantization returns quantization_config as compressed-tensors writes it (QuantizationConfig in
// compressed_tensors/quantization/quant_config.py). The class Linear stands for the most common
// scheme and comes last: names of modules go before it.
func (e *exporter) quantization() *directory.Object {
	groups := &directory.Object{}
	last := len(e.schemes) - 1
	for i, s := range e.schemes {
		targets := s.modules
		if i == last {
			targets = []string{"Linear"}
			if slices.Contains(s.modules, head) { // which is no Linear in vLLM
				targets = append(targets, head)
			}
		}
		group := &directory.Object{}
		group.Set("format", format)
		group.Set("input_activations", nil)
		group.Set("output_activations", nil)
		group.Set("targets", targets)
		group.Set("weights", s.arguments())
		groups.Set("group_"+strconv.Itoa(i), group)
	}
	o := &directory.Object{}
	o.Set("config_groups", groups)
	o.Set("format", format)
	o.Set("global_compression_ratio", nil)
	o.Set("ignore", e.ignored())
	o.Set("kv_cache_scheme", nil)
	o.Set("quant_method", method)
	o.Set("quantization_status", "compressed")
	o.Set("version", formatVersion)
	return o
}

// arguments returns the QuantizationArgs of a scheme.
func (s *scheme) arguments() *directory.Object {
	o := &directory.Object{}
	o.Set("dynamic", false)
	if s.Group == 0 {
		o.Set("group_size", nil)
	} else {
		o.Set("group_size", s.Group)
	}
	o.Set("num_bits", s.Bits)
	strategy := "group"
	if s.Group == 0 {
		strategy = "channel"
	}
	o.Set("strategy", strategy)
	o.Set("symmetric", !s.ZeroPoint)
	o.Set("type", "int")
	return o
}

// ignored returns the linear layers that are not quantized. A head that is tied to the embedding is
// one in transformers.
func (e *exporter) ignored() []string {
	out := []string{}
	for _, spec := range e.s.Config.Tensors() {
		if _, ok := e.codes[spec.Module()]; !ok && spec.Role == model.Projection {
			out = append(out, spec.Module())
		}
	}
	if _, ok := e.codes[head]; !ok {
		out = append(out, head)
	}
	return out
}
