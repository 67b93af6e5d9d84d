package infer

// Tape holds the intermediate results of a forward pass that the backward pass of the same
// batch needs: those of every layer, or only each layer's input if they are recomputed.
type Tape struct {
	opts    TapeOptions
	n       int
	layers  []layerTape
	scratch layerTape // of the current layer, if the others keep only their input
	final   []float32 // hidden states before the final norm, [n, hidden]
}

// layerTape holds the results of one layer for n tokens.
type layerTape struct {
	in             []float32 // hidden states at its beginning, [n, hidden]
	attentionIn    []float32 // input of q, k, v, [n, hidden]
	q, k, v        []float32 // as projected; [n, heads·head_dim], 2 × [n, kv_heads·head_dim]; q and k only for a QK-norm or with Outputs
	qRotated       []float32 // normed and rotated
	kRotated       []float32
	attn           []float32              // input of o, [n, heads·head_dim]
	o              []float32              // output of o, [n, hidden]
	middle         []float32              // hidden states after attention, [n, hidden]
	feedForwardIn  []float32              // input of gate and up, [n, hidden]
	gate, up       []float32              // [n, intermediate]
	feedForwardOut []float32              // input of down, [n, intermediate]
	down           []float32              // output of down, [n, hidden]
	qkv, gateUp    []float32              // outputs of fused projections; only with Outputs
	low            [projections][]float32 // the adapters' Scale·X·Aᵀ, [n, rank]
}

// TapeOptions are the options of [NewTape]. The zero value keeps the intermediate results of all
// layers, without the projections' outputs.
type TapeOptions struct {
	// Recompute keeps only the input of each layer, [n, hidden], and the backward pass
	// runs every layer forward again (Chen et al. 2016, arXiv:1604.06174).
	Recompute bool
	// Outputs keeps the outputs of the projections for the visitor ([Projected].Y).
	Outputs bool
}

// NewTape returns an empty tape.
func NewTape(opts TapeOptions) *Tape { return &Tape{opts: opts} }

// TapeBytes returns the bytes per token of a tape without Recompute, adapters not counted.
func (m *Model) TapeBytes() int64 {
	c := m.Config
	q, kv := int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim)
	return 4 * int64(c.Layers) * (6*int64(c.HiddenSize) + 3*q + 3*kv + 3*int64(c.IntermediateSize))
}

// keepProjected applies a projection and keeps the adapter's intermediate result as l.low[p], unless l
// is nil.
func (r *Runner) keepProjected(l *layerTape, layer int, p projection, y, x []float32, n int) {
	r.project(layer, p, y, x, n)
	if l != nil && r.model.Blocks[layer].projection(p).Adapter != nil {
		keep(&l.low[p], r.low)
	}
}

// ForwardTape is [Runner.Forward] for whole sequences, and fills the tape. It panics if a cache
// is not empty or a segment has a model of its own.
func (r *Runner) ForwardTape(batch []Segment, t *Tape) []float32 {
	for _, s := range batch {
		if s.Cache.Len != 0 {
			panic("infer: ForwardTape: a cache is not empty")
		}
		if s.Model != nil && s.Model != r.model {
			panic("infer: ForwardTape: a segment has a model of its own")
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
		l := &t.layers[layer]
		keep(&l.in, r.hidden[:n*d])
		if t.opts.Recompute {
			l = nil
		}
		r.runLayer(batch, layer, n, l, t.opts.Outputs)
		r.layerDone(n)
	}
	keep(&t.final, r.hidden[:n*d])
	r.norm(r.normed, r.hidden, r.model.FinalNorm, n)
	return r.normed[:n*d]
}

// runLayer runs one layer and keeps its results in l, those of o and down only with outputs or for
// a norm. A nil l keeps nothing.
func (r *Runner) runLayer(batch []Segment, layer, n int, l *layerTape, outputs bool) {
	c, b := r.model.Config, &r.model.Blocks[layer]
	r.attentionIn(layer, n)
	if l == nil {
		r.attentionOut(batch, layer, n)
		r.addAttention(layer, n)
		r.feedForwardIn(layer, n)
		r.feedForwardOut(layer, n)
		r.addFeedForward(layer, n)
		return
	}
	swap(&l.attentionIn, &r.normed)
	r.projectQKV(l, layer, l.attentionIn, n)
	if outputs && c.Fused {
		keep(&l.qkv, r.fused)
	}
	if outputs || b.QNorm != nil {
		keep(&l.q, r.q)
		keep(&l.k, r.k)
	}
	r.attendAll(batch, layer, n)
	swap(&l.qRotated, &r.q)
	swap(&l.kRotated, &r.k)
	swap(&l.v, &r.v)
	swap(&l.attn, &r.attn)
	r.keepProjected(l, layer, projO, r.normed, l.attn, n)
	if outputs || b.AttentionNorm != nil {
		keep(&l.o, r.normed)
	}
	r.addOutput(b.AttentionNorm, n)
	keep(&l.middle, r.hidden)
	r.feedForwardIn(layer, n)
	swap(&l.feedForwardIn, &r.normed)
	r.projectGateUp(l, layer, l.feedForwardIn, n)
	if outputs && c.Fused {
		keep(&l.gateUp, r.fused)
	}
	swap(&l.gate, &r.gate)
	swap(&l.up, &r.up)
	f := c.IntermediateSize
	l.feedForwardOut = grow(l.feedForwardOut, n*f)
	r.rows(n, func(i int) {
		gateMul(c, l.feedForwardOut[i*f:(i+1)*f], l.gate[i*f:(i+1)*f], l.up[i*f:(i+1)*f])
	})
	r.keepProjected(l, layer, projDown, r.normed, l.feedForwardOut, n)
	if outputs || b.FeedForwardOutNorm != nil {
		keep(&l.down, r.normed)
	}
	r.addOutput(b.FeedForwardOutNorm, n)
}

// swap moves a result from the runner's buffer to the tape, and gives the runner the tape's old
// buffer for the next.
func swap(kept, buffer *[]float32) {
	n := len(*buffer)
	*kept, *buffer = *buffer, grow(*kept, n)
}

// keep copies src to dst, which grows as needed.
func keep(dst *[]float32, src []float32) {
	*dst = grow(*dst, len(src))
	copy(*dst, src)
}
