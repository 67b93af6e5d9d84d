package recovery

import (
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// gradientNorm returns the Euclidean norm of g. The order of the sums is fixed by
// optimizerChunk, so the result does not depend on the number of threads.
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

// clipFactor returns the factor that limits a gradient of this norm to the norm most, as
// torch.nn.utils.clip_grad_norm_ does; most <= 0 means no limit.
func clipFactor(norm, most float64) float64 {
	if most > 0 && norm > most {
		return most / norm
	}
	return 1
}
