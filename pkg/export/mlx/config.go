package mlx

import (
	"path/filepath"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/directory"
	"afmq/pkg/fault"
	"afmq/pkg/model"
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
	e.modelKeys(o)
	if len(e.codes) > 0 {
		// load_model of mlx-lm reads quantization; quantization_config is what mlx-lm writes for
		// the pages of Hugging Face.
		q := e.quantization()
		o.Set("quantization", q)
		o.Set("quantization_config", q)
	}
	return o.Encode(), nil
}

// quantization returns the widths of the modules: that of most of them, then those that differ, and
// false for those that are not quantized.
func (e *exporter) quantization() *directory.Object {
	o := &directory.Object{}
	o.Set("group_size", e.common.group)
	o.Set("bits", e.common.bits)
	o.Set("mode", "affine")
	for i := range e.s.Layout {
		spec := e.s.Layout[i].Spec
		if len(spec.Shape) != 2 {
			continue
		}
		w, ok := e.codes[spec.Module()]
		switch {
		case !ok:
			o.Set(spec.Module(), false)
		case w != e.common:
			own := &directory.Object{}
			own.Set("group_size", w.group)
			own.Set("bits", w.bits)
			o.Set(spec.Module(), own)
		}
	}
	return o
}

// modelKeys sets the keys that mlx-lm's model classes read (mlx_lm/models/llama.py, qwen2.py,
// qwen3.py, rope_utils.py).
func (e *exporter) modelKeys(o *directory.Object) {
	c := e.s.Config
	o.Set("num_key_value_heads", c.KVHeads)
	o.Set("head_dim", c.HeadDim)
	o.Set("max_position_embeddings", e.Context)
	o.Set("rms_norm_eps", directory.Float(c.RMSNormEps))
	o.Set("tie_word_embeddings", c.TieEmbeddings)
	o.Set("rope_theta", directory.Float(c.Rope.Theta))
	o.Set("rope_scaling", e.ropeScaling())
	if !classes[c.ModelType].llama {
		return
	}
	o.Set("attention_bias", c.OBias)
	o.Set("mlp_bias", c.MLPBias)
	types := make([]string, c.Layers)
	for l := range types {
		types[l] = "full_attention"
		if e.windowed() && c.Window(l) > 0 {
			types[l] = "sliding_attention"
		}
	}
	o.Set("layer_types", types)
	if e.windowed() {
		o.Set("sliding_window", c.SlidingWindow)
	}
}

// ropeScaling returns rope_scaling; nil for an embedding without scaling.
func (e *exporter) ropeScaling() any {
	r := e.s.Config.Rope
	if r.Type == "default" {
		return nil
	}
	o := &directory.Object{}
	o.Set("rope_type", r.Type)
	o.Set("factor", directory.Float(r.Factor))
	switch r.Type {
	case "llama3":
		o.Set("low_freq_factor", directory.Float(r.LowFactor))
		o.Set("high_freq_factor", directory.Float(r.HighFactor))
		o.Set("original_max_position_embeddings", r.OriginalPositions)
	case "yarn":
		o.Set("original_max_position_embeddings", r.OriginalPositions)
		o.Set("beta_fast", directory.Float(r.BetaFast))
		o.Set("beta_slow", directory.Float(r.BetaSlow))
		if m, ok := magnitude(r); ok {
			o.Set("mscale", directory.Float(m))
		}
	}
	return o
}
