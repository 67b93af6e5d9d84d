package infer

import (
	"afmq/internal/kernel"
	"afmq/pkg/model"
)

// Projected is one projection in the backward pass. Its slices are valid during the visit.
type Projected struct {
	Layer  int
	Kind   string // [model.TensorSpec].Kind
	Linear *Linear
	N      int       // tokens
	X      []float32 // input [N, in]
	Y      []float32 // output, with the bias [N, out]; only if the tape keeps outputs
	G      []float32 // gradient of the loss with respect to Y
	// With an adapter, LowX is Scale·X·Aᵀ and LowG is Scale·G·B, both [N, rank]. The gradient
	// of the loss with respect to A is LowGᵀ·X, and with respect to B it is Gᵀ·LowX.
	LowX, LowG []float32
}

// Visitor receives every projection during the backward pass.
type Visitor func(p Projected)

// Normed is one norm in the backward pass. Its slices are valid during the visit.
type Normed struct {
	Layer int       // -1 for the final norm
	Kind  string    // [model.TensorSpec].Kind: "input_layernorm", "q_norm" … or "norm"
	N     int       // vectors: tokens, or tokens times heads
	X     []float32 // input [N, size]
	G     []float32 // gradient of the loss with respect to the output [N, size]
}

// NormVisitor receives every norm during the backward pass.
type NormVisitor func(n Normed)

// Visitors receive what has weights during the backward pass; see [Runner.BackwardAll].
type Visitors struct {
	Projections Visitor     // nil for none
	Norms       NormVisitor // nil for none
}

// Backward propagates grad, the gradient of a loss with respect to the hidden states after the
// final norm, [n, hidden], through the batch of the tape. It calls visit for every projection,
// from the last layer to the first and, within a layer, down, gate, up, o, q, k, v, or down, the fused gate and up, o, the fused q, k and v. It computes
// the gradients of activations only; that of a projection's weights is Gᵀ·X. At the end grad is
// the gradient with respect to the input of the first layer; see [EmbedRow].
func (r *Runner) Backward(batch []Segment, t *Tape, grad []float32, visit Visitor) {
	r.BackwardAll(batch, t, grad, Visitors{Projections: visit})
}

// BackwardAll is [Runner.Backward] that calls Norms for every norm, too: the final one first, and
// within a layer each after the projections that read it.
func (r *Runner) BackwardAll(batch []Segment, t *Tape, grad []float32, visit Visitors) {
	n := t.n
	r.backward().grow(r.model.Config, n)
	r.finalBack(grad, t.final, n, visit.Norms)
	for layer := len(r.model.Blocks) - 1; layer >= 0; layer-- {
		l := &t.layers[layer]
		if t.opts.Recompute {
			t.scratch.in = l.in
			l = &t.scratch
			r.rerun(batch, layer, l, n, t.opts.Outputs)
		}
		r.layerBack(batch, layer, l, grad, n, visit)
	}
}

// finalBack propagates grad through the final norm, in place. final is the norm's input.
func (r *Runner) finalBack(grad, final []float32, n int, visit NormVisitor) {
	c, bw := r.model.Config, r.backward()
	bw.grow(c, n)
	copy(bw.normed, grad[:n*c.HiddenSize])
	clear(grad[:n*c.HiddenSize])
	visit.call(Normed{-1, "norm", n, final[:n*c.HiddenSize], bw.normed})
	r.normBack(grad, bw.normed, final, r.model.FinalNorm, float32(c.RMSNormEps), n)
}

func (v NormVisitor) call(n Normed) {
	if v != nil {
		v(n)
	}
}

// rerun runs a layer on its input l.in and keeps its results in l.
func (r *Runner) rerun(batch []Segment, layer int, l *layerTape, n int, outputs bool) {
	r.begin(batch)
	copy(r.hidden, l.in)
	r.runLayer(batch, layer, n, l, outputs)
}

// layerBack propagates grad from a layer's output to its input, in place.
func (r *Runner) layerBack(batch []Segment, layer int, l *layerTape, grad []float32, n int, visit Visitors) {
	b := &r.model.Blocks[layer]
	r.feedForwardBack(b, l, layer, n, grad, visit)
	r.attentionBack(b, l, batch, layer, n, grad, visit)
}

// backward returns the buffers of the backward pass.
func (r *Runner) backward() *backwardBuffers {
	if r.back == nil {
		r.back = &backwardBuffers{workers: make([]attentionBackScratch, r.pool.Threads())}
	}
	return r.back
}

type backwardBuffers struct {
	normed         []float32 // [n, hidden]
	added, output  []float32 // [n, hidden], where outputBack needs them
	fused          []float32 // [n, outputs], of a fused projection
	q, attn        []float32 // [n, heads·head_dim]
	k, v           []float32 // [n, kv_heads·head_dim]
	gate, up, wide []float32 // [n, intermediate]
	low            []float32 // [n, rank]
	logits         []float32 // [n, vocab], where logitsBack needs them
	workers        []attentionBackScratch
}

func (b *backwardBuffers) grow(c *model.Config, n int) {
	b.normed = grow(b.normed, n*c.HiddenSize)
	for _, p := range []*[]float32{&b.q, &b.attn} {
		*p = grow(*p, n*c.Heads*c.HeadDim)
	}
	for _, p := range []*[]float32{&b.k, &b.v} {
		*p = grow(*p, n*c.KVHeads*c.HeadDim)
	}
	for _, p := range []*[]float32{&b.gate, &b.up, &b.wide} {
		*p = grow(*p, n*c.IntermediateSize)
	}
}

// normBack adds the gradient of a norm's input to dst; grad is overwritten.
func (r *Runner) normBack(dst, grad, x, w []float32, eps float32, n int) {
	d := len(w)
	r.rows(n, func(i int) {
		kernel.RMSNormBack(dst[i*d:(i+1)*d], grad[i*d:(i+1)*d], x[i*d:(i+1)*d], w, eps)
	})
}

// feedForwardBack propagates grad from the layer's output to the hidden states after attention.
func (r *Runner) feedForwardBack(b *Block, l *layerTape, layer, n int, grad []float32, visit Visitors) {
	bw, f := r.back, r.model.Config.IntermediateSize
	out := r.outputBack(grad, branch{layer, b.FeedForwardOutNorm, "post_feedforward_layernorm", l.down}, n, visit.Norms)
	r.projectBack(bw.wide, false, projDown, l, Projected{layer, "down_proj", &b.Down, n, l.feedForwardOut, l.down, out, nil, nil}, visit.Projections)
	copy(bw.gate, l.gate)
	copy(bw.up, l.up)
	r.rows(n, func(i int) {
		gateMulBack(r.model.Config, bw.gate[i*f:(i+1)*f], bw.up[i*f:(i+1)*f], bw.wide[i*f:(i+1)*f])
	})
	if r.model.Config.Fused {
		g := bw.fuse(n, bw.gate[:n*f], bw.up[:n*f])
		r.projectBack(bw.normed, false, projGateUp, l, Projected{layer, "gate_up_proj", &b.GateUp, n, l.feedForwardIn, l.gateUp, g, nil, nil}, visit.Projections)
	} else {
		r.projectBack(bw.normed, false, projGate, l, Projected{layer, "gate_proj", &b.Gate, n, l.feedForwardIn, l.gate, bw.gate, nil, nil}, visit.Projections)
		r.projectBack(bw.normed, true, projUp, l, Projected{layer, "up_proj", &b.Up, n, l.feedForwardIn, l.up, bw.up, nil, nil}, visit.Projections)
	}
	kind := "pre_feedforward_layernorm"
	if r.model.Config.Norms == model.PreNorm {
		kind = "post_attention_layernorm"
	}
	r.inputBack(grad, bw.normed, l.middle, b.FeedForwardNorm, layer, kind, n, visit.Norms)
}

// projectBack propagates the gradient p.G of a projection's output to its input dx [n, in], to
// which it is added if add is set, and calls visit. at is the projection's index.
func (r *Runner) projectBack(dx []float32, add bool, at projection, l *layerTape, p Projected, visit Visitor) {
	p.Linear.applyBack(r.pool, dx, p.G, p.N, add, &r.back.low)
	if p.Linear.Adapter != nil {
		p.LowX, p.LowG = l.low[at], r.back.low
	}
	if visit != nil {
		visit(p)
	}
}

// HiddenGradient computes the gradient [n, hidden] of a loss with respect to the
// hidden states after the final norm from that with respect to the logits, [n,
// vocab], which becomes that with respect to the products with the head. hidden are those hidden
// states: a soft cap needs their logits again.
func (r *Runner) HiddenGradient(grad, logitsGrad, hidden []float32, n int) {
	r.logitsBack(logitsGrad[:n*r.model.Config.VocabSize], hidden, n)
	r.pool.Mul(grad, logitsGrad, n, r.model.Head)
}
