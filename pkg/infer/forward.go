package infer

import (
	"afmq/internal/kernel"
)

// Forward runs the tokens of all segments through the model at once, appends their keys and
// values to the caches, and returns the hidden states after the final norm, [total tokens,
// hidden], in the order of the segments. They are valid until the next call. It panics if a
// segment does not fit its cache or a token id is outside the vocabulary.
func (r *Runner) Forward(batch []Segment) []float32 {
	n := r.begin(batch)
	r.embed(batch)
	return r.from(0, batch, n)
}

// from runs the layers from the given one on over r.hidden and the final norm.
func (r *Runner) from(layer int, batch []Segment, n int) []float32 {
	for ; layer < len(r.model.Blocks); layer++ {
		r.attentionIn(layer, n)
		r.attentionOut(batch, layer, n)
		r.addAttention(layer, n)
		r.feedForwardIn(layer, n)
		r.feedForwardOut(layer, n)
		r.addFeedForward(layer, n)
		r.layerDone(n)
	}
	r.norm(r.normed, r.hidden, r.model.FinalNorm, n)
	for i := range batch {
		batch[i].Cache.Len += len(batch[i].Tokens)
	}
	return r.normed[:n*r.model.Config.HiddenSize]
}

// The six steps of a layer. Each reads the result of the one before from the runner's buffers.

// attentionIn computes the input of q, k and v into r.normed.
func (r *Runner) attentionIn(layer, n int) {
	r.norm(r.normed, r.hidden, r.model.Blocks[layer].InputNorm, n)
}

// attentionOut computes the input of o into r.attn.
func (r *Runner) attentionOut(batch []Segment, layer, n int) {
	r.projectQKV(nil, layer, r.normed, n)
	r.attendAll(batch, layer, n)
}

// addAttention adds the attention's result to r.hidden.
func (r *Runner) addAttention(layer, n int) {
	r.project(layer, projO, r.normed, r.attn, n)
	r.addOutput(r.model.Blocks[layer].AttentionNorm, n)
}

// feedForwardIn computes the input of gate and up into r.normed.
func (r *Runner) feedForwardIn(layer, n int) {
	r.norm(r.normed, r.hidden, r.model.Blocks[layer].FeedForwardNorm, n)
}

// feedForwardOut computes the input of down into r.gate.
func (r *Runner) feedForwardOut(layer, n int) {
	r.projectGateUp(nil, layer, r.normed, n)
	r.each(n, rowLoop{f: (*Runner).gateRow})
}

func (r *Runner) gateRow(i int) {
	f := r.model.Config.IntermediateSize
	gate := r.gate[i*f : (i+1)*f]
	gateMul(r.model.Config, gate, gate, r.up[i*f:(i+1)*f])
}

// addFeedForward adds the feed-forward's result to r.hidden.
func (r *Runner) addFeedForward(layer, n int) {
	r.project(layer, projDown, r.normed, r.gate, n)
	r.addOutput(r.model.Blocks[layer].FeedForwardOutNorm, n)
}

// addOutput adds r.normed, what attention or feed-forward computed, to r.hidden, normed first if
// there are weights norm.
func (r *Runner) addOutput(norm []float32, n int) {
	if norm != nil {
		r.norm(r.normed, r.normed, norm, n)
	}
	r.each(n, rowLoop{f: (*Runner).addRow})
}

func (r *Runner) addRow(i int) {
	c := r.model.Config
	hidden, added := r.hidden[i*c.HiddenSize:(i+1)*c.HiddenSize], r.normed[i*c.HiddenSize:(i+1)*c.HiddenSize]
	if s := residualScale(c); s != 1 {
		kernel.AddScaled(hidden, added, s)
		return
	}
	kernel.Add(hidden, added)
}

// Logits computes the logits [n, vocab] of n hidden states [n, hidden].
func (r *Runner) Logits(logits, hidden []float32, n int) {
	r.pool.MulT(logits, hidden, n, r.model.Head)
	FinishLogits(r.pool, r.model.Config, logits[:n*r.model.Config.VocabSize])
}

// norm computes the RMSNorm of n rows, or copies them where there are no weights w.
func (r *Runner) norm(dst, x, w []float32, n int) {
	if w == nil {
		copy(dst, x[:n*r.model.Config.HiddenSize])
		return
	}
	r.each(n, rowLoop{f: (*Runner).normRow, dst: dst, x: x, w: w})
}

func (r *Runner) normRow(i int) {
	l, d := &r.loop, len(r.loop.w)
	kernel.RMSNorm(l.dst[i*d:(i+1)*d], l.x[i*d:(i+1)*d], l.w, float32(r.model.Config.RMSNormEps))
}
