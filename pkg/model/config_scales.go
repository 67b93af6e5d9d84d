package model

import "math"

// Scales are factors and bounds on activations that some families have. 0 stands for that of the others.
type Scales struct {
	Embedding float64 // on the embeddings; otherwise 1
	Scores    float64 // on the scores of attention; otherwise 1/√head_dim
	Residual  float64 // on what attention and feed-forward add to the hidden states; otherwise 1
	Logits    float64 // on the logits; otherwise 1
	ScoreCap  float64 // c of the soft cap c·tanh(x/c) on scaled scores; otherwise there is none
	LogitCap  float64 // the same on logits
}

// scaleRule says which keys of a family have its scales.
type scaleRule uint8

const (
	noScales      scaleRule = iota
	graniteScales           // embedding_multiplier, attention_multiplier, residual_multiplier, logits_scaling
	gemma2Scales            // √hidden_size, query_pre_attn_scalar, attn_logit_softcapping, final_logit_softcapping
	gemma3Scales            // the same without attn_logit_softcapping; no cap by default
)

func readScales(f *fields, fam family, c *Config) (s Scales) {
	switch fam.scales {
	case graniteScales:
		s.Embedding = positive(f, "embedding_multiplier", 1)
		s.Scores = positive(f, "attention_multiplier", 1)
		s.Residual = positive(f, "residual_multiplier", 1)
		s.Logits = 1 / positive(f, "logits_scaling", 1)
	case gemma2Scales:
		s = gemmaScales(f, c, 30)
		s.ScoreCap = softCap(f, "attn_logit_softcapping", 50)
	case gemma3Scales:
		s = gemmaScales(f, c, 0)
		if softCap(f, "attn_logit_softcapping", 0) != 0 { // the class reads the key and has no cap
			f.fail("attn_logit_softcapping", "is %s, which a %s model does not support", f.m["attn_logit_softcapping"], c.ModelType)
		}
	}
	return s
}

func gemmaScales(f *fields, c *Config, logitCap float64) Scales {
	return Scales{
		Embedding: rounded(f, math.Sqrt(float64(c.HiddenSize))),
		Scores:    1 / math.Sqrt(positive(f, "query_pre_attn_scalar", 256)),
		LogitCap:  softCap(f, "final_logit_softcapping", logitCap),
	}
}

// softCap reads a soft cap. A missing one is def; null is none.
func softCap(f *fields, key string, def float64) float64 {
	if f.isNull(key) || def == 0 && !f.has(key) {
		return 0
	}
	return positive(f, key, def)
}

// rounded rounds x to the type of the weights that config.json names, as transformers does where it
// multiplies embeddings by it.
func rounded(f *fields, x float64) float64 {
	const newer, older = "dtype", "torch_dtype"
	key := newer
	if !f.has(newer) {
		key = older
	}
	bits := 0
	switch kind := f.string(key, ""); kind {
	case "float32":
		bits = 24
	case "float16":
		bits = 11
	case "bfloat16":
		bits = 8
	case "":
		f.fail(newer, "is missing; the scale of the embeddings is rounded to it")
	default:
		f.fail(key, "is %q; expected float32, float16 or bfloat16", kind)
	}
	fraction, exponent := math.Frexp(float64(float32(x)))
	return math.Ldexp(math.RoundToEven(math.Ldexp(fraction, bits)), exponent-bits)
}
