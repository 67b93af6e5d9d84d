package recovery

import (
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// AdamW's constants, but for the rate (Loshchilov and Hutter 2019, arXiv:1711.05101).
const (
	beta1   = 0.9
	beta2   = 0.999
	epsilon = 1e-8
)

// optimizerChunk is how many numbers one job of the optimizer works on. It fixes the
// order of the sums, so it is no function of the threads.
const optimizerChunk = 1 << 14

// gradientNorm returns the Euclidean norm.
func gradientNorm(pool *compute.Pool, g []float32) float64 {
	sums := make([]float64, (len(g)+optimizerChunk-1)/optimizerChunk)
	pool.Run(len(sums), func(_, i int) {
		part := g[i*optimizerChunk : min((i+1)*optimizerChunk, len(g))]
		sums[i] = kernel.Dot(part, part)
	})
	total := 0.0
	for _, s := range sums {
		total += s
	}
	return math.Sqrt(total)
}

// adamW makes step number t, counted from 1, at a rate, with the gradients times
// gradScale. Every product is rounded to float32 on its own, as a conversion asks for,
// so that all machines agree.
func (s *student) adamW(pool *compute.Pool, t int64, rate, decay, gradScale float64) {
	stepSize := float32(rate / (1 - math.Pow(beta1, float64(t))))
	root := float32(1 / math.Sqrt(1-math.Pow(beta2, float64(t))))
	keep := float32(1 - rate*decay)
	scale := float32(gradScale)
	const b1, b2 = float32(beta1), float32(beta2)
	n := len(s.weights)
	pool.Run((n+optimizerChunk-1)/optimizerChunk, func(_, c int) {
		for i := c * optimizerChunk; i < min((c+1)*optimizerChunk, n); i++ {
			g := s.grads[i] * scale
			m := float32(b1*s.m[i]) + float32((1-b1)*g)
			v := float32(b2*s.v[i]) + float32((1-b2)*float32(g*g))
			s.m[i], s.v[i] = m, v
			size := float32(float32(math.Sqrt(float64(v)))*root) + epsilon
			s.weights[i] = float32(s.weights[i]*keep) - float32(stepSize*float32(m/size))
		}
	})
}

// rateAt returns the learning rate of step t of steps, both counted from 1: a linear
// rise over the warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017,
// arXiv:1608.03983).
func rateAt(t, steps int64, highest, warmup float64) float64 {
	rise := int64(math.Ceil(warmup * float64(steps)))
	if t <= rise {
		return highest * float64(t) / float64(rise)
	}
	// The last step still moves: the cosine would reach zero one step after it.
	x := float64(t-rise) / float64(steps-rise+1)
	return highest * 0.5 * (1 + math.Cos(math.Pi*x))
}
