package infer

import (
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/model"
)

// EmbedRow sets dst, [hidden], to the input of the first layer for a token: its row of the embedding
// and the family's scale.
func EmbedRow(c *model.Config, dst []float32, embedding *compute.Matrix, id int) {
	embedding.Row(dst, id)
	if s := c.Scales.Embedding; s != 0 {
		kernel.Scale(dst, float32(s))
	}
}

// FinishLogits turns products of hidden states and head into logits: it applies the family's scale.
func FinishLogits(c *model.Config, logits []float32) {
	if s := c.Scales.Logits; s != 0 {
		kernel.Scale(logits, float32(s))
	}
}

// scoreScale returns the factor on the scores of attention.
func scoreScale(c *model.Config) float32 {
	if s := c.Scales.Scores; s != 0 {
		return float32(s)
	}
	return float32(1 / math.Sqrt(float64(c.HeadDim)))
}

// residualScale returns the factor on what attention and feed-forward add to the hidden states.
func residualScale(c *model.Config) float32 {
	if s := c.Scales.Residual; s != 0 {
		return float32(s)
	}
	return 1
}
