package gguf

import (
	"math"
	"slices"

	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
)

// factors is a tensor of factors of the rotary embedding, [head_dim/2]: the frequencies of the
// base are divided by them.
type factors struct {
	name   string
	values []float32
}

// scaling returns what the file says about the scaling of the rotary embedding: keys, and tensors
// of factors. llama.cpp computes linear and yarn itself, the latter with fixed values of
// beta_fast, beta_slow and truncate. What does not depend on the length of the text can also be
// given as factors, where the architecture reads them.
func (e *exporter) scaling() ([]file.KV, []factors, error) {
	r := e.s.Config.Rope
	kv := func(key string, value any) file.KV {
		return file.KV{Key: e.arch.Name + ".rope.scaling." + key, Value: value}
	}
	switch r.Type {
	case "default", "dynamic": // dynamic differs beyond max_position_embeddings alone
		return nil, nil, nil
	case "linear":
		return []file.KV{kv("type", "linear"), kv("factor", float32(r.Factor))}, nil, nil
	case "yarn":
		if !e.ordinaryYarn() {
			break
		}
		keys := []file.KV{kv("type", "yarn"), kv("factor", float32(r.Factor)), kv("original_context_length", uint32(r.OriginalPositions))}
		// llama.cpp multiplies this by the factor that the paper gives.
		if f := float32(r.AttentionFactor / (1 + 0.1*math.Log(r.Factor))); f != 1 {
			keys = append(keys, kv("attn_factor", f))
		}
		return keys, nil, nil
	case "longrope":
		if !e.arch.RopeFactors {
			break
		}
		keys := []file.KV{
			kv("type", "longrope"), kv("original_context_length", uint32(r.OriginalPositions)), kv("attn_factor", float32(r.AttentionFactor)),
		}
		return keys, []factors{
			{ggufmodel.RopeFactorsLong, floats(r.LongFactors)}, {ggufmodel.RopeFactorsShort, floats(r.ShortFactors)},
		}, nil
	}
	if !e.arch.RopeFactors {
		what := "the rotary embedding " + r.Type
		if r.Type == "yarn" {
			what += " with other values of beta_fast, beta_slow or truncate than 32, 1 and true"
		}
		return nil, nil, e.lacks(what)
	}
	var keys []file.KV
	scaled, attention := r.Frequencies(e.s.Config.HeadDim, e.Context)
	if attention != 1 {
		keys = append(keys, kv("attn_factor", float32(attention)))
	}
	base := model.Rope{Type: "default", Theta: r.Theta}
	values, _ := base.Frequencies(e.s.Config.HeadDim, e.Context)
	for i := range values {
		values[i] /= scaled[i]
	}
	return keys, []factors{{ggufmodel.RopeFreqs, floats(values)}}, nil
}

// ordinaryYarn reports whether llama.cpp's yarn has the frequencies of the model.
func (e *exporter) ordinaryYarn() bool {
	r := e.s.Config.Rope
	theirs := r
	theirs.BetaFast, theirs.BetaSlow, theirs.Truncate = 32, 1, true
	a, _ := r.Frequencies(e.s.Config.HeadDim, e.Context)
	b, _ := theirs.Frequencies(e.s.Config.HeadDim, e.Context)
	return slices.Equal(a, b)
}

func floats(values []float64) []float32 {
	out := make([]float32, len(values))
	for i, x := range values {
		out[i] = float32(x)
	}
	return out
}
