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

// FinishLogits turns products of hidden states and head into logits: it applies the family's scale and
// soft cap.
func FinishLogits(pool *compute.Pool, c *model.Config, logits []float32) {
	if s := c.Scales.Logits; s != 0 {
		kernel.Scale(logits, float32(s))
	}
	if cap := c.Scales.LogitCap; cap != 0 {
		inChunks(pool, len(logits), func(from, to int) { kernel.SoftCap(logits[from:to], 1, float32(cap)) })
	}
}

// logitsBack replaces grad, the gradient with respect to the logits of n hidden states, by that with
// respect to their products with the head.
func (r *Runner) logitsBack(grad, hidden []float32, n int) {
	c := r.model.Config
	if cap := c.Scales.LogitCap; cap != 0 {
		bw := r.backward()
		bw.logits = grow(bw.logits, len(grad))
		r.Logits(bw.logits, hidden, n)
		inChunks(r.pool, len(grad), func(from, to int) {
			kernel.SoftCapBack(grad[from:to], bw.logits[from:to], 1, float32(cap))
		})
	}
	if s := c.Scales.Logits; s != 0 {
		kernel.Scale(grad, float32(s))
	}
}

// inChunks calls f for ranges of n numbers, in parallel.
func inChunks(pool *compute.Pool, n int, f func(from, to int)) {
	const chunk = 1 << 13
	pool.Run((n+chunk-1)/chunk, func(_, i int) { f(i*chunk, min((i+1)*chunk, n)) })
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
