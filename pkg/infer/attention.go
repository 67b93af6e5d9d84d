package infer

import (
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/model"
)

// attendAll computes the attention of a layer for the n projected tokens of the batch into
// r.attn. Where a cache holds fewer positions than a sequence has, it works in parts.
func (r *Runner) attendAll(batch []Segment, layer, n int) {
	longest, step := 0, math.MaxInt
	for _, seg := range batch {
		longest, step = max(longest, len(seg.Tokens)), min(step, seg.Cache.part(layer))
	}
	for from := 0; from < longest; from += step {
		part := tokenRange{from, from + min(step, longest-from)}
		for _, seg := range batch {
			if tokens := min(part.to, len(seg.Tokens)) - from; tokens > 0 {
				seg.Cache.admit(layer, seg.Cache.Len+from, tokens)
			}
		}
		r.rotateAndStore(batch, layer, n, part)
		r.attention(batch, layer, part)
	}
}

// rotateAndStore norms the queries and keys of a part of the batch where the family does,
// rotates them to their positions, and appends keys and values to the caches.
func (r *Runner) rotateAndStore(batch []Segment, layer, n int, part tokenRange) {
	r.each(n, rowLoop{f: (*Runner).rotateRow, batch: batch, layer: layer, part: part})
}

func (r *Runner) rotateRow(i int) {
	c, layer, part := r.model.Config, r.loop.layer, r.loop.part
	cache, pos := r.loop.batch[r.segmentOf[i]].Cache, r.posOf[i]
	if t := pos - cache.Len; t < part.from || t >= part.to {
		return
	}
	b, rotation := &r.model.Blocks[layer], r.rotation(layer)
	hd := c.HeadDim
	q, k := r.q[i*c.Heads*hd:(i+1)*c.Heads*hd], r.k[i*c.KVHeads*hd:(i+1)*c.KVHeads*hd]
	r.normHeads(q, b.QNorm)
	r.normHeads(k, b.KNorm)
	rotation.rotate(q, hd, i)
	rotation.rotate(k, hd, i)
	for kv := range c.KVHeads {
		keys, values := cache.head(layer, kv, pos)
		copy(keys, k[kv*hd:(kv+1)*hd])
		copy(values, r.v[(i*c.KVHeads+kv)*hd:][:hd])
	}
}

// normHeads applies the QK-norm to the heads of a token, if the model has one.
func (r *Runner) normHeads(x, norm []float32) {
	for at := 0; norm != nil && at < len(x); at += len(norm) {
		head := x[at : at+len(norm)]
		kernel.RMSNorm(head, head, norm, float32(r.model.Config.RMSNormEps))
	}
}

// attentionTask is the attention of some tokens of a segment over one KV head
// and all the query heads that share it.
type attentionTask struct {
	cache         *Cache
	layer, kv     int
	first         int // index of the segment's first token in the batch
	start, length int // the tokens [start, start+length) of the segment
}

type attentionScratch struct {
	mul            kernel.Scratch
	q, scores, out []float32
}

// maxScores bounds the float32 scores of one task: about 1 MB, so that they stay in the
// second-level cache together with the keys.
const maxScores = 1 << 18

// maxQueries bounds the tokens of one task: each is multiplied with every key that the last one
// sees, of which the earlier ones discard some.
const maxQueries = 64

// queryBlock returns how many tokens of a sequence of n one task of attention has.
func queryBlock(c *model.Config, window, n int) int {
	keys := n
	if window > 0 {
		keys = min(n, maxEarlier(window)+maxQueries)
	}
	return min(max(maxScores/(keys*c.Heads/c.KVHeads), 1), maxQueries)
}

// attention computes causal grouped-query attention (Ainslie et al. 2023,
// arXiv:2305.13245), with the layer's sliding window if it has one (Beltagy et al. 2020,
// arXiv:2004.05150), for every token of a part of the batch into r.attn.
func (r *Runner) attention(batch []Segment, layer int, part tokenRange) {
	c := r.model.Config
	r.tasks = r.tasks[:0]
	first := 0
	for _, seg := range batch {
		n := len(seg.Tokens)
		end := min(n, part.to)
		for start := part.from; start < end; {
			length := min(queryBlock(c, c.Window(layer), seg.Cache.Len+n), end-start)
			for kv := range c.KVHeads {
				r.tasks = append(r.tasks, attentionTask{seg.Cache, layer, kv, first, start, length})
			}
			start += length
		}
		first += n
	}
	r.pool.Run(len(r.tasks), r.taskLoop)
}

// attend runs one task.
func (r *Runner) attend(w *attentionScratch, t attentionTask) {
	c, cache := r.model.Config, t.cache
	hd, group := c.HeadDim, c.Heads/c.KVHeads
	base := cache.Len + t.start // position of the task's first token
	window := c.Window(t.layer)
	first := firstKey(window, base)
	keys, values := cache.head(t.layer, t.kv, first)
	visible := base + t.length - first // keys up to the last token's
	rows := t.length * group           // one per token and query head, token by token
	scoring := newScoring(c)
	width := group * hd

	w.q, w.scores, w.out = grow(w.q, rows*hd), grow(w.scores, rows*visible), grow(w.out, rows*hd)
	at := func(i int) int { return (t.first+t.start+i)*c.Heads*hd + t.kv*width }
	for i := range t.length {
		copy(w.q[i*width:(i+1)*width], r.q[at(i):at(i)+width])
	}
	w.mul.MulNT(rows, visible, hd, w.q, hd, keys, hd, w.scores, visible)
	for row := range rows {
		from, to := visibleKeys(window, base+row/group)
		scoring.weights(w.scores[row*visible:(row+1)*visible], from-first, to-first)
	}
	w.mul.MulNN(rows, hd, visible, w.scores, visible, values, hd, w.out, hd)
	for i := range t.length {
		copy(r.attn[at(i):at(i)+width], w.out[i*width:(i+1)*width])
	}
}
