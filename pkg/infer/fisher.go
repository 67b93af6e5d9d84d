package infer

import (
	"math/rand/v2"

	"afmq/internal/kernel"
)

// SampledGradient draws a token at every position from the model's own distribution and computes
// grad, [n, hidden], the gradient of the sum of the tokens' nats with respect to hidden, the
// hidden states after the final norm, [n, hidden]. With respect to the logits it is the
// distribution minus one at the token drawn. Its second moments are the Fisher information, the
// curvature of the divergence from the model (Martens 2020, arXiv:1412.1193).
func (r *Runner) SampledGradient(grad, hidden []float32, n int, rng *rand.Rand) {
	vocab, d := r.model.Config.VocabSize, r.model.Config.HiddenSize
	rows := LogitRows(vocab)
	logits := make([]float32, min(rows, n)*vocab)
	uniform := make([]float64, min(rows, n))
	for at := 0; at < n; at += rows {
		k := min(rows, n-at)
		l := logits[:k*vocab]
		r.Logits(l, hidden[at*d:(at+k)*d], k)
		for i := range k {
			uniform[i] = rng.Float64()
		}
		r.pool.Run(k, func(_, i int) {
			p := l[i*vocab : (i+1)*vocab]
			kernel.Softmax(p, 1)
			p[pick(p, uniform[i])]--
		})
		r.HiddenGradient(grad[at*d:(at+k)*d], l, hidden[at*d:(at+k)*d], k)
	}
}

// pick returns the index at which the running sum of p exceeds u.
func pick(p []float32, u float64) int {
	last := 0
	for i, v := range p {
		if v <= 0 {
			continue
		}
		last = i
		if u -= float64(v); u < 0 {
			return i
		}
	}
	return last // the sum of float32 probabilities may be just below 1
}
