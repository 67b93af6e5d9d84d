package model

// Scales are factors on activations that some families have. 0 stands for that of the others.
type Scales struct {
	Embedding float64 // on the embeddings; otherwise 1
	Scores    float64 // on the scores of attention; otherwise 1/√head_dim
	Residual  float64 // on what attention and feed-forward add to the hidden states; otherwise 1
	Logits    float64 // on the logits; otherwise 1
}

// scaleRule says which keys of a family have its scales.
type scaleRule uint8

const (
	noScales      scaleRule = iota
	graniteScales           // embedding_multiplier, attention_multiplier, residual_multiplier, logits_scaling
)

func readScales(f *fields, fam family) (s Scales) {
	if fam.scales == graniteScales {
		s.Embedding = positive(f, "embedding_multiplier", 1)
		s.Scores = positive(f, "attention_multiplier", 1)
		s.Residual = positive(f, "residual_multiplier", 1)
		s.Logits = 1 / positive(f, "logits_scaling", 1)
	}
	return s
}
