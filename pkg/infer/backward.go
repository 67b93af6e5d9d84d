package infer

import (
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/model"
)

// Tape is what a forward pass leaves for the backward pass of the same batch: the
// intermediate results of every layer, or only its input where they are computed
// again.
type Tape struct {
	opts    TapeOptions
	n       int
	layers  []layerTape
	scratch layerTape // of the layer at hand, where the others keep only their input
	final   []float32 // hidden states before the final norm, [n, hidden]
}

// layerTape holds the results of one layer for n tokens.
type layerTape struct {
	in             []float32 // hidden states at its beginning, [n, hidden]
	attentionIn    []float32 // input of q, k, v, [n, hidden]
	q, k, v        []float32 // as projected; [n, heads·head_dim], 2 × [n, kv_heads·head_dim]; q and k only where they are needed
	qTurned        []float32 // normed and rotated
	kTurned        []float32
	attn           []float32    // input of o, [n, heads·head_dim]
	o              []float32    // output of o, [n, hidden]
	middle         []float32    // hidden states after attention, [n, hidden]
	feedForwardIn  []float32    // input of gate and up, [n, hidden]
	gate, up       []float32    // [n, intermediate]
	feedForwardOut []float32    // input of down, [n, intermediate]
	down           []float32    // output of down, [n, hidden]
	low            [7][]float32 // what the adapters make of their inputs, [n, rank], in the order of the kinds
}

// TapeOptions say what a tape keeps.
type TapeOptions struct {
	// Recompute keeps only the input of each layer, [n, hidden], and the backward pass
	// runs every layer forward again (Chen et al. 2016, arXiv:1604.06174).
	Recompute bool
	// Outputs keeps the projections' outputs for the visitor.
	Outputs bool
}

// NewTape returns an empty tape.
func NewTape(opts TapeOptions) *Tape { return &Tape{opts: opts} }

// TapeBytes returns the memory that a tape that recomputes nothing takes for each
// token, adapters aside.
func (m *Model) TapeBytes() int64 {
	c := m.Config
	q, kv := int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim)
	return 4 * int64(c.Layers) * (6*int64(c.HiddenSize) + 3*q + 3*kv + 3*int64(c.IntermediateSize))
}

// The projections' places in layerTape.low.
const (
	lowQ = iota
	lowK
	lowV
	lowO
	lowGate
	lowUp
	lowDown
)

// keepProjected applies a projection and keeps what its adapter makes of x.
func (r *Runner) keepProjected(l *layerTape, place int, p *Linear, y, x []float32, n int) {
	r.project(p, y, x, n)
	if p.Adapter != nil {
		keep(&l.low[place], r.low)
	}
}

// ForwardTape is [Runner.Forward] for sequences that begin with empty caches, and
// fills the tape.
func (r *Runner) ForwardTape(batch []Segment, t *Tape) []float32 {
	for _, s := range batch {
		if s.Cache.Len != 0 {
			panic("infer: ForwardTape: a cache is not empty")
		}
	}
	n := r.begin(batch)
	r.embed(batch)
	t.n = n
	if t.layers == nil {
		t.layers = make([]layerTape, len(r.model.Blocks))
	}
	d := r.model.Config.HiddenSize
	for layer := range r.model.Blocks {
		b, l := &r.model.Blocks[layer], &t.layers[layer]
		keep(&l.in, r.hidden[:n*d])
		if t.opts.Recompute {
			l = nil
		}
		r.layerTape(b, batch, layer, n, l, t.opts.Outputs)
	}
	keep(&t.final, r.hidden[:n*d])
	r.norm(r.normed, r.hidden, r.model.FinalNorm, n)
	return r.normed[:n*d]
}

// layerTape runs one layer and keeps its results in l, the outputs of o and down only if
// asked to; a nil l keeps nothing.
func (r *Runner) layerTape(b *Block, batch []Segment, layer, n int, l *layerTape, outputs bool) {
	c := r.model.Config
	r.attentionIn(b, n)
	if l == nil {
		r.attentionOut(b, batch, layer, n)
		r.addAttention(b, n)
		r.feedForwardIn(b, n)
		r.feedForwardOut(b, n)
		r.addFeedForward(b, n)
		return
	}
	swap(&l.attentionIn, &r.normed)
	r.keepProjected(l, lowQ, &b.Q, r.q, l.attentionIn, n)
	r.keepProjected(l, lowK, &b.K, r.k, l.attentionIn, n)
	r.keepProjected(l, lowV, &b.V, r.v, l.attentionIn, n)
	if outputs || b.QNorm != nil {
		keep(&l.q, r.q)
		keep(&l.k, r.k)
	}
	r.attendAll(batch, layer, n)
	swap(&l.qTurned, &r.q)
	swap(&l.kTurned, &r.k)
	swap(&l.v, &r.v)
	swap(&l.attn, &r.attn)
	r.keepProjected(l, lowO, &b.O, r.normed, l.attn, n)
	if outputs {
		keep(&l.o, r.normed)
	}
	r.addNormed(n)
	keep(&l.middle, r.hidden)
	r.feedForwardIn(b, n)
	swap(&l.feedForwardIn, &r.normed)
	r.keepProjected(l, lowGate, &b.Gate, r.gate, l.feedForwardIn, n)
	r.keepProjected(l, lowUp, &b.Up, r.up, l.feedForwardIn, n)
	swap(&l.gate, &r.gate)
	swap(&l.up, &r.up)
	f := c.IntermediateSize
	l.feedForwardOut = grow(l.feedForwardOut, n*f)
	r.rows(n, func(i int) {
		kernel.SiLUMul(l.feedForwardOut[i*f:(i+1)*f], l.gate[i*f:(i+1)*f], l.up[i*f:(i+1)*f])
	})
	r.keepProjected(l, lowDown, &b.Down, r.normed, l.feedForwardOut, n)
	if outputs {
		keep(&l.down, r.normed)
	}
	r.addNormed(n)
}

// swap gives the tape a result in the runner's buffer, and the runner the tape's old one
// for the next.
func swap(kept, buffer *[]float32) {
	n := len(*buffer)
	*kept, *buffer = *buffer, grow(*kept, n)
}

func keep(dst *[]float32, src []float32) {
	*dst = grow(*dst, len(src))
	copy(*dst, src)
}

// Projected is one projection in the backward pass. Its slices are valid during the
// visit only.
type Projected struct {
	Layer  int
	Kind   string // "q_proj" to "down_proj"
	Linear *Linear
	N      int       // tokens
	X      []float32 // input [N, in]
	Y      []float32 // output, with the bias [N, out]; only if the tape keeps outputs
	G      []float32 // gradient of the loss with respect to Y
	// With an adapter, LowX is Scale·A·x and LowG is Scale·Bᵀ·g, [N, rank] both: the
	// gradient of the loss with respect to A is LowGᵀ·X, and to B it is Gᵀ·LowX.
	LowX, LowG []float32
}

// Visitor is shown every projection of a layer during the backward pass.
type Visitor func(p Projected)

// Backward takes the gradient of a loss with respect to the hidden states after the
// final norm, [n, hidden], back through the batch of the tape, and shows the visitor
// every projection, from the last layer to the first and, within a layer, down, gate,
// up, o, q, k, v. It computes gradients of activations alone; those of a projection's
// weights are gᵀ·x. grad is overwritten with the gradient with respect to the
// embeddings.
func (r *Runner) Backward(batch []Segment, t *Tape, grad []float32, visit Visitor) {
	c, n, d := r.model.Config, t.n, r.model.Config.HiddenSize
	bw := r.backward()
	bw.grow(c, n)
	eps := float32(c.RMSNormEps)
	copy(bw.normed, grad[:n*d])
	clear(grad[:n*d])
	r.normBack(grad, bw.normed, t.final, r.model.FinalNorm, eps, n)
	for layer := len(r.model.Blocks) - 1; layer >= 0; layer-- {
		b, l := &r.model.Blocks[layer], &t.layers[layer]
		if t.opts.Recompute {
			r.begin(batch)
			copy(r.hidden, l.in)
			t.scratch.in = l.in
			l = &t.scratch
			r.layerTape(b, batch, layer, n, l, t.opts.Outputs)
		}
		r.feedForwardBack(b, l, layer, n, grad, visit)
		r.attentionBack(b, l, batch, layer, n, grad, visit)
	}
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
	q, attn        []float32 // [n, heads·head_dim]
	k, v           []float32 // [n, kv_heads·head_dim]
	gate, up, wide []float32 // [n, intermediate]
	low            []float32 // [n, rank]
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

// feedForwardBack takes grad from the layer's output to the middle of the layer.
func (r *Runner) feedForwardBack(b *Block, l *layerTape, layer, n int, grad []float32, visit Visitor) {
	c, bw := r.model.Config, r.back
	d, f := c.HiddenSize, c.IntermediateSize
	r.projectBack(bw.wide, false, lowDown, l, Projected{layer, "down_proj", &b.Down, n, l.feedForwardOut, l.down, grad, nil, nil}, visit)
	copy(bw.gate, l.gate)
	copy(bw.up, l.up)
	r.rows(n, func(i int) {
		kernel.SiLUMulBack(bw.gate[i*f:(i+1)*f], bw.up[i*f:(i+1)*f], bw.wide[i*f:(i+1)*f])
	})
	r.projectBack(bw.normed, false, lowGate, l, Projected{layer, "gate_proj", &b.Gate, n, l.feedForwardIn, l.gate, bw.gate, nil, nil}, visit)
	r.projectBack(bw.normed, true, lowUp, l, Projected{layer, "up_proj", &b.Up, n, l.feedForwardIn, l.up, bw.up, nil, nil}, visit)
	r.normBack(grad[:n*d], bw.normed, l.middle, b.PostAttentionNorm, float32(c.RMSNormEps), n)
}

// projectBack takes the gradient p.G of a projection's output back to its input, into
// dx [n, in] or on top of it, and shows the projection to the visitor.
func (r *Runner) projectBack(dx []float32, add bool, place int, l *layerTape, p Projected, visit Visitor) {
	p.Linear.applyBack(r.pool, dx, p.G, p.N, add, &r.back.low)
	if p.Linear.Adapter != nil {
		p.LowX, p.LowG = l.low[place], r.back.low
	}
	visit(p)
}

// attentionBack takes grad from the middle of the layer to its beginning.
func (r *Runner) attentionBack(b *Block, l *layerTape, batch []Segment, layer, n int, grad []float32, visit Visitor) {
	c, bw := r.model.Config, r.back
	hd, eps := c.HeadDim, float32(c.RMSNormEps)
	r.projectBack(bw.attn, false, lowO, l, Projected{layer, "o_proj", &b.O, n, l.attn, l.o, grad, nil, nil}, visit)

	first := make([]int, len(batch))
	for s := 1; s < len(batch); s++ {
		first[s] = first[s-1] + len(batch[s-1].Tokens)
	}
	r.pool.Run(len(batch)*c.KVHeads, func(worker, i int) {
		s := i / c.KVHeads
		r.headBack(&bw.workers[worker], l, c.Window(layer), first[s], len(batch[s].Tokens), i%c.KVHeads)
	})
	r.rows(n, func(i int) {
		turn := func(grad, kept, norm []float32, at int) {
			g := grad[at : at+hd]
			kernel.RopeBack(g, r.cos[i], r.sin[i])
			if norm != nil {
				var room [256]float32
				t := append(room[:0], g...)
				clear(g)
				kernel.RMSNormBack(g, t, kept[at:at+hd], norm, eps)
			}
		}
		for h := range c.Heads {
			turn(bw.q, l.q, b.QNorm, (i*c.Heads+h)*hd)
		}
		for h := range c.KVHeads {
			turn(bw.k, l.k, b.KNorm, (i*c.KVHeads+h)*hd)
		}
	})
	r.projectBack(bw.normed, false, lowQ, l, Projected{layer, "q_proj", &b.Q, n, l.attentionIn, l.q, bw.q, nil, nil}, visit)
	r.projectBack(bw.normed, true, lowK, l, Projected{layer, "k_proj", &b.K, n, l.attentionIn, l.k, bw.k, nil, nil}, visit)
	r.projectBack(bw.normed, true, lowV, l, Projected{layer, "v_proj", &b.V, n, l.attentionIn, l.v, bw.v, nil, nil}, visit)
	r.normBack(grad[:n*c.HiddenSize], bw.normed, l.in, b.InputNorm, eps, n)
}

type attentionBackScratch struct {
	mul                   kernel.Scratch
	q, out, scores, grads []float32
	dq, dk, dv            []float32
}

// headBack computes the gradients of q, k and v for one sequence, whose first token
// is row first, and one KV head with the query heads that share it, in a layer with the
// given sliding window, 0 for none. Scores are computed again, for some tokens at a time,
// so memory grows with the length alone.
func (r *Runner) headBack(w *attentionBackScratch, l *layerTape, window, first, n, kv int) {
	c, bw := r.model.Config, r.back
	hd, group := c.HeadDim, c.Heads/c.KVHeads
	width, kvWidth := group*hd, c.KVHeads*hd
	scale := float32(1 / math.Sqrt(float64(hd)))
	w.dk, w.dv = grow(w.dk, n*hd), grow(w.dv, n*hd)
	clear(w.dk)
	clear(w.dv)
	block := queryBlock(c, window, n)
	for start := 0; start < n; start += block {
		length := min(block, n-start)
		low := firstKey(window, start)
		keys, values := l.kTurned[(first+low)*kvWidth+kv*hd:], l.v[(first+low)*kvWidth+kv*hd:]
		rows, visible := length*group, start+length-low
		at := func(i int) int { return (first+start+i)*c.Heads*hd + kv*width }
		w.q, w.out, w.dq = grow(w.q, rows*hd), grow(w.out, rows*hd), grow(w.dq, rows*hd)
		w.scores, w.grads = grow(w.scores, rows*visible), grow(w.grads, rows*visible)
		for i := range length {
			copy(w.q[i*width:(i+1)*width], l.qTurned[at(i):at(i)+width])
			copy(w.out[i*width:(i+1)*width], bw.attn[at(i):at(i)+width])
		}
		w.mul.MulNT(rows, visible, hd, w.q, hd, keys, kvWidth, w.scores, visible)
		w.mul.MulNT(rows, visible, hd, w.out, hd, values, kvWidth, w.grads, visible)
		for row := range rows {
			from, to := visibleKeys(window, start+row/group)
			from, to = from-low, to-low
			p, g := w.scores[row*visible:(row+1)*visible], w.grads[row*visible:(row+1)*visible]
			attentionWeights(p, from, to, scale)
			kernel.SoftmaxBack(g[from:to], p[from:to], scale)
			clear(g[:from])
			clear(g[to:])
		}
		w.mul.MulNN(rows, hd, visible, w.grads, visible, keys, kvWidth, w.dq, hd)
		w.mul.MulTNAdd(visible, hd, rows, w.grads, visible, w.q, hd, w.dk[low*hd:], hd)
		w.mul.MulTNAdd(visible, hd, rows, w.scores, visible, w.out, hd, w.dv[low*hd:], hd)
		for i := range length {
			copy(bw.q[at(i):at(i)+width], w.dq[i*width:(i+1)*width])
		}
	}
	for i := range n {
		copy(bw.k[(first+i)*kvWidth+kv*hd:][:hd], w.dk[i*hd:])
		copy(bw.v[(first+i)*kvWidth+kv*hd:][:hd], w.dv[i*hd:])
	}
}

// HiddenGradient computes the gradient [n, hidden] of a loss with respect to the
// hidden states after the final norm from that with respect to the logits, [n,
// vocab].
func (r *Runner) HiddenGradient(grad, logitsGrad []float32, n int) {
	r.pool.Mul(grad, logitsGrad, n, r.model.Head)
}
