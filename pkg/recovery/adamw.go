package recovery

import (
	"math"

	"afmq/pkg/compute"
)

// AdamW's constants, except the rate (Loshchilov and Hutter 2019, arXiv:1711.05101).
const (
	beta1 = 0.9
	beta2 = 0.999
)

// optimizerChunk is the number of weights that one job of the optimizer updates. It is a
// constant, and not derived from the number of threads, because it fixes the order of sums.
const optimizerChunk = 1 << 14

// adamW makes update number t, counted from 1, with the gradients times gradScale. Every
// product is rounded to float32 separately, which the explicit conversions demand, so that
// all machines produce the same bits.
func (s *trained) adamW(pool *compute.Pool, t int64, rate, decay, gradScale float64) {
	stepSize := float32(rate / (1 - math.Pow(beta1, float64(t))))
	secondScale := float32(1 / math.Sqrt(1-math.Pow(beta2, float64(t))))
	keep := float32(1 - rate*decay)
	scale := float32(gradScale)
	const b1, b2 = float32(beta1), float32(beta2)
	epsilon := float32(s.epsilon)
	n := len(s.weights)
	pool.Run((n+optimizerChunk-1)/optimizerChunk, func(_, c int) {
		for i := c * optimizerChunk; i < min((c+1)*optimizerChunk, n); i++ {
			g := s.grads[i] * scale
			m := float32(b1*s.m[i]) + float32((1-b1)*g)
			v := float32(b2*s.v[i]) + float32((1-b2)*float32(g*g))
			s.m[i], s.v[i] = m, v
			size := float32(float32(math.Sqrt(float64(v)))*secondScale) + epsilon
			s.weights[i] = float32(s.weights[i]*keep) - float32(stepSize*float32(m/size))
		}
	})
}
