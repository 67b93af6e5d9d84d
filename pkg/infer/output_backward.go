package infer

import "afmq/internal/kernel"

// branch is what attention or feed-forward adds to the hidden states.
type branch struct {
	layer int
	norm  []float32 // nil for none
	kind  string    // of the norm
	out   []float32 // output of o or down, [n, hidden]; only with a norm
}

// outputBack returns the gradient with respect to the output of o or down from grad, that with respect
// to the hidden states to which it was added: grad itself where neither a norm nor a scale is between.
func (r *Runner) outputBack(grad []float32, b branch, n int, visit NormVisitor) []float32 {
	c, bw := r.model.Config, r.back
	scale, size := residualScale(c), n*c.HiddenSize
	if scale == 1 && b.norm == nil {
		return grad
	}
	bw.added = grow(bw.added, size)
	copy(bw.added, grad)
	kernel.Scale(bw.added, scale)
	if b.norm == nil {
		return bw.added
	}
	visit.call(Normed{b.layer, b.kind, n, b.out[:size], bw.added})
	bw.output = grow(bw.output, size)
	clear(bw.output)
	r.normBack(bw.output, bw.added, b.out, b.norm, float32(c.RMSNormEps), n)
	return bw.output
}

// inputBack adds to grad the gradient through the norm in front of attention or feed-forward, of which
// in is the input, from that with respect to its result, which is overwritten.
func (r *Runner) inputBack(grad, normed, in, norm []float32, layer int, kind string, n int, visit NormVisitor) {
	size := n * r.model.Config.HiddenSize
	if norm == nil {
		kernel.Add(grad[:size], normed[:size])
		return
	}
	visit.call(Normed{layer, kind, n, in[:size], normed})
	r.normBack(grad[:size], normed, in, norm, float32(r.model.Config.RMSNormEps), n)
}
