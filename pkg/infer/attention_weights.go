package infer

import (
	"afmq/internal/kernel"
	"afmq/pkg/model"
)

// scoring is how scores become the weights of values.
type scoring struct{ scale, cap float32 } // cap is 0 without a soft cap

func newScoring(c *model.Config) scoring { return scoring{scoreScale(c), float32(c.Scales.ScoreCap)} }

// weights replaces a token's scores by the weights of the values. The token sees the
// keys [from, to); the other weights are 0.
func (s scoring) weights(scores []float32, from, to int) {
	scale := s.scale
	if s.cap != 0 {
		kernel.SoftCap(scores[from:to], scale, s.cap)
		scale = 1
	}
	kernel.Softmax(scores[from:to], scale)
	clear(scores[:from])
	clear(scores[to:])
}

// weightsBack replaces a token's scores by the weights, and grad, the gradient with respect to the
// weights, by that with respect to the scores. capped is a buffer.
func (s scoring) weightsBack(scores, grad []float32, from, to int, capped *[]float32) {
	if s.cap == 0 {
		s.weights(scores, from, to)
		kernel.SoftmaxBack(grad[from:to], scores[from:to], s.scale)
	} else {
		keep(capped, scores[from:to])
		kernel.SoftCap(*capped, s.scale, s.cap)
		s.weights(scores, from, to)
		kernel.SoftmaxBack(grad[from:to], scores[from:to], 1)
		kernel.SoftCapBack(grad[from:to], *capped, s.scale, s.cap)
	}
	clear(grad[:from])
	clear(grad[to:])
}
