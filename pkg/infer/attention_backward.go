package infer

import "afmq/internal/kernel"

// attentionBack propagates grad from the hidden states after attention to the layer's input.
func (r *Runner) attentionBack(b *Block, l *layerTape, batch []Segment, layer, n int, grad []float32, visit Visitors) {
	c, bw := r.model.Config, r.back
	out := r.outputBack(grad, branch{layer, b.AttentionNorm, "post_attention_layernorm", l.o}, n, visit.Norms)
	r.projectBack(bw.attn, false, projO, l, Projected{layer, "o_proj", &b.O, n, l.attn, l.o, out, nil, nil}, visit.Projections)

	first := make([]int, len(batch))
	for s := 1; s < len(batch); s++ {
		first[s] = first[s-1] + len(batch[s-1].Tokens)
	}
	r.pool.Run(len(batch)*c.KVHeads, func(worker, i int) {
		s := i / c.KVHeads
		r.headBack(&bw.workers[worker], l, c.Window(layer), first[s], len(batch[s].Tokens), i%c.KVHeads)
	})
	rotation := r.rotation(layer)
	r.headsBack(bw.q, l.q, b.QNorm, rotation, n, c.Heads, func(x, g []float32) {
		visit.Norms.call(Normed{layer, "q_norm", len(x) / len(b.QNorm), x, g})
	})
	r.headsBack(bw.k, l.k, b.KNorm, rotation, n, c.KVHeads, func(x, g []float32) {
		visit.Norms.call(Normed{layer, "k_norm", len(x) / len(b.KNorm), x, g})
	})
	if c.Fused {
		g := bw.fuse(n, bw.q[:n*c.Heads*c.HeadDim], bw.k[:n*c.KVHeads*c.HeadDim], bw.v[:n*c.KVHeads*c.HeadDim])
		r.projectBack(bw.normed, false, projQKV, l, Projected{layer, "qkv_proj", &b.QKV, n, l.attentionIn, l.qkv, g, nil, nil}, visit.Projections)
	} else {
		r.projectBack(bw.normed, false, projQ, l, Projected{layer, "q_proj", &b.Q, n, l.attentionIn, l.q, bw.q, nil, nil}, visit.Projections)
		r.projectBack(bw.normed, true, projK, l, Projected{layer, "k_proj", &b.K, n, l.attentionIn, l.k, bw.k, nil, nil}, visit.Projections)
		r.projectBack(bw.normed, true, projV, l, Projected{layer, "v_proj", &b.V, n, l.attentionIn, l.v, bw.v, nil, nil}, visit.Projections)
	}
	r.inputBack(grad, bw.normed, l.in, b.InputNorm, layer, "input_layernorm", n, visit.Norms)
}

// headsBack propagates the gradient of all heads of q or k of n tokens, [n, heads·head_dim], through
// the rotary embedding, if the layer has one, and, if there are weights norm, the QK-norm, whose input is projected.
func (r *Runner) headsBack(grad, projected, norm []float32, rotation *rotation, n, heads int, visit func(x, g []float32)) {
	hd := r.model.Config.HeadDim
	grad = grad[:n*heads*hd]
	r.rows(n, func(i int) { rotation.rotateBack(grad[i*heads*hd:(i+1)*heads*hd], hd, i) })
	if norm == nil {
		return
	}
	visit(projected[:len(grad)], grad)
	r.rows(n, func(i int) {
		var buffer [256]float32
		for at := i * heads * hd; at < (i+1)*heads*hd; at += len(norm) {
			g := grad[at : at+len(norm)]
			rotated := append(buffer[:0], g...)
			clear(g)
			kernel.RMSNormBack(g, rotated, projected[at:at+len(norm)], norm, float32(r.model.Config.RMSNormEps))
		}
	})
}

type attentionBackScratch struct {
	mul                   kernel.Scratch
	q, out, scores, grads []float32
	dq, dk, dv, capped    []float32
}

// headBack computes the gradients of q, k and v for one KV head and the query heads that share
// it, in the sequence of n tokens whose first is row first. window is the layer's sliding window,
// 0 for none. Scores are recomputed for a block of tokens at a time, so that memory grows
// linearly with the length.
func (r *Runner) headBack(w *attentionBackScratch, l *layerTape, window, first, n, kv int) {
	c, bw := r.model.Config, r.back
	hd, group := c.HeadDim, c.Heads/c.KVHeads
	width, kvWidth := group*hd, c.KVHeads*hd
	scoring := newScoring(c)
	w.dk, w.dv = grow(w.dk, n*hd), grow(w.dv, n*hd)
	clear(w.dk)
	clear(w.dv)
	block := queryBlock(c, window, n)
	for start := 0; start < n; start += block {
		length := min(block, n-start)
		low := firstKey(window, start)
		keys, values := l.kRotated[(first+low)*kvWidth+kv*hd:], l.v[(first+low)*kvWidth+kv*hd:]
		rows, visible := length*group, start+length-low
		at := func(i int) int { return (first+start+i)*c.Heads*hd + kv*width }
		w.q, w.out, w.dq = grow(w.q, rows*hd), grow(w.out, rows*hd), grow(w.dq, rows*hd)
		w.scores, w.grads = grow(w.scores, rows*visible), grow(w.grads, rows*visible)
		for i := range length {
			copy(w.q[i*width:(i+1)*width], l.qRotated[at(i):at(i)+width])
			copy(w.out[i*width:(i+1)*width], bw.attn[at(i):at(i)+width])
		}
		w.mul.MulNT(rows, visible, hd, w.q, hd, keys, kvWidth, w.scores, visible)
		w.mul.MulNT(rows, visible, hd, w.out, hd, values, kvWidth, w.grads, visible)
		for row := range rows {
			from, to := visibleKeys(window, start+row/group)
			from, to = from-low, to-low
			p, g := w.scores[row*visible:(row+1)*visible], w.grads[row*visible:(row+1)*visible]
			scoring.weightsBack(p, g, from, to, &w.capped)
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
