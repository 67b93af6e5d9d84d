package infer

import (
	"fmt"
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/model"
)

// Segment is a run of tokens of one sequence: they follow what its cache holds,
// and are appended to it.
type Segment struct {
	Cache  *Cache
	Tokens []int32
}

// Runner runs a model. It owns the buffers of a forward pass, which grow to the
// largest batch seen and are then reused, so it serves one goroutine at a time.
type Runner struct {
	model *Model
	pool  *compute.Pool
	rope  *ropeTable

	hidden, normed   []float32 // [n, hidden]
	q, attn          []float32 // [n, heads·head_dim]
	k, v             []float32 // [n, kv_heads·head_dim]
	gate, up         []float32 // [n, intermediate]
	low              []float32 // [n, rank], of the projection applied last
	workers          []attentionScratch
	tasks            []attentionTask
	cos, sin         [][]float32 // per token, [head_dim/2]
	segmentOf, posOf []int       // per token
	back             *backwardBuffers

	// What a loop over rows is at, and the loops bound to it once: closures of their own
	// would be allocated for every one.
	loop                rowLoop
	chunkLoop, taskLoop func(worker, i int)
}

// rowLoop is the arguments of a loop over n rows.
type rowLoop struct {
	f         func(r *Runner, i int)
	n         int
	dst, x, w []float32
	batch     []Segment
	layer     int
	part      tokenRange
}

// tokenRange is the tokens [from, to) of every segment, as far as it has them.
type tokenRange struct{ from, to int }

// NewRunner returns a runner whose matrix products run on pool.
func (m *Model) NewRunner(pool *compute.Pool) *Runner {
	r := &Runner{
		model:   m,
		pool:    pool,
		rope:    newRopeTable(m.Config),
		workers: make([]attentionScratch, pool.Threads()),
	}
	r.chunkLoop = func(_, c int) { r.chunk(c) }
	r.taskLoop = func(worker, i int) { r.attend(&r.workers[worker], r.tasks[i]) }
	return r
}

// Model returns the model that the runner runs.
func (r *Runner) Model() *Model { return r.model }

// Use makes the runner run another model of the same Config, such as one that
// [Model.WithAdapter] returned, with the same buffers. It panics if the Config is another.
func (r *Runner) Use(m *Model) {
	if m.Config != r.model.Config {
		panic("infer: Runner.Use: the model has another config")
	}
	r.model = m
}

// Forward runs the tokens of all segments through the model at once, appends
// them to their caches, and returns the hidden states after the final norm,
// [total tokens, hidden], in the order of the segments. They are valid until the
// next call. A segment must fit its cache; token ids must lie in the vocabulary.
func (r *Runner) Forward(batch []Segment) []float32 {
	n := r.begin(batch)
	r.embed(batch)
	return r.from(0, batch, n)
}

// from runs the layers from the given one on over r.hidden and the final norm.
func (r *Runner) from(layer int, batch []Segment, n int) []float32 {
	for ; layer < len(r.model.Blocks); layer++ {
		b := &r.model.Blocks[layer]
		r.attentionIn(b, n)
		r.attentionOut(b, batch, layer, n)
		r.addAttention(b, n)
		r.feedForwardIn(b, n)
		r.feedForwardOut(b, n)
		r.addFeedForward(b, n)
	}
	r.norm(r.normed, r.hidden, r.model.FinalNorm, n)
	for i := range batch {
		batch[i].Cache.Len += len(batch[i].Tokens)
	}
	return r.normed[:n*r.model.Config.HiddenSize]
}

// The six steps of a layer. Each takes what the one before left in the runner's
// buffers.

// attentionIn computes the input of q, k and v into r.normed.
func (r *Runner) attentionIn(b *Block, n int) { r.norm(r.normed, r.hidden, b.InputNorm, n) }

// attentionOut computes the input of o into r.attn.
func (r *Runner) attentionOut(b *Block, batch []Segment, layer, n int) {
	r.project(&b.Q, r.q, r.normed, n)
	r.project(&b.K, r.k, r.normed, n)
	r.project(&b.V, r.v, r.normed, n)
	r.attendAll(batch, layer, n)
}

// addAttention adds the attention's result to r.hidden.
func (r *Runner) addAttention(b *Block, n int) {
	r.project(&b.O, r.normed, r.attn, n)
	r.addNormed(n)
}

// feedForwardIn computes the input of gate and up into r.normed.
func (r *Runner) feedForwardIn(b *Block, n int) {
	r.norm(r.normed, r.hidden, b.PostAttentionNorm, n)
}

// feedForwardOut computes the input of down into r.gate.
func (r *Runner) feedForwardOut(b *Block, n int) {
	r.project(&b.Gate, r.gate, r.normed, n)
	r.project(&b.Up, r.up, r.normed, n)
	r.each(n, rowLoop{f: (*Runner).siluRow})
}

func (r *Runner) siluRow(i int) {
	f := r.model.Config.IntermediateSize
	gate := r.gate[i*f : (i+1)*f]
	kernel.SiLUMul(gate, gate, r.up[i*f:(i+1)*f])
}

// addFeedForward adds the feed-forward's result to r.hidden.
func (r *Runner) addFeedForward(b *Block, n int) {
	r.project(&b.Down, r.normed, r.gate, n)
	r.addNormed(n)
}

// project applies a projection, and leaves in r.low what its adapter makes of x.
func (r *Runner) project(l *Linear, y, x []float32, n int) { l.apply(r.pool, y, x, n, &r.low) }

// addNormed adds r.normed to r.hidden.
func (r *Runner) addNormed(n int) { r.each(n, rowLoop{f: (*Runner).addRow}) }

func (r *Runner) addRow(i int) {
	d := r.model.Config.HiddenSize
	kernel.Add(r.hidden[i*d:(i+1)*d], r.normed[i*d:(i+1)*d])
}

// Logits computes the logits [n, vocab] of n hidden states [n, hidden].
func (r *Runner) Logits(logits, hidden []float32, n int) {
	r.pool.MulT(logits, hidden, n, r.model.Head)
}

// begin checks the batch, sizes the buffers and returns the number of tokens.
func (r *Runner) begin(batch []Segment) int {
	c := r.model.Config
	r.segmentOf, r.posOf = r.segmentOf[:0], r.posOf[:0]
	r.cos, r.sin = r.cos[:0], r.sin[:0]
	for s, seg := range batch {
		base, n := seg.Cache.Len, len(seg.Tokens)
		if base+n > seg.Cache.capacity {
			panic(fmt.Sprintf("infer: %d positions do not fit a cache of %d", base+n, seg.Cache.capacity))
		}
		cos, sin := r.rope.at(base, n)
		r.cos, r.sin = append(r.cos, cos...), append(r.sin, sin...)
		for t := range n {
			r.segmentOf = append(r.segmentOf, s)
			r.posOf = append(r.posOf, base+t)
		}
	}
	n := len(r.posOf)
	d := c.HiddenSize
	r.hidden = grow(r.hidden, n*d)
	r.normed = grow(r.normed, n*d)
	r.q = grow(r.q, n*c.Heads*c.HeadDim)
	r.attn = grow(r.attn, n*c.Heads*c.HeadDim)
	r.k = grow(r.k, n*c.KVHeads*c.HeadDim)
	r.v = grow(r.v, n*c.KVHeads*c.HeadDim)
	r.gate = grow(r.gate, n*c.IntermediateSize)
	r.up = grow(r.up, n*c.IntermediateSize)
	return n
}

// embed looks the tokens' embeddings up into r.hidden.
func (r *Runner) embed(batch []Segment) {
	d, i := r.model.Config.HiddenSize, 0
	for _, seg := range batch {
		for _, id := range seg.Tokens {
			r.model.Embedding.Row(r.hidden[i*d:(i+1)*d], int(id))
			i++
		}
	}
}

// grow returns a slice of length n, reusing the memory of s where it suffices.
func grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

// rowChunk is how many rows of an element-wise operation make a job.
const rowChunk = 16

// each calls the loop's function for each of n rows, in parallel where that pays.
func (r *Runner) each(n int, loop rowLoop) {
	r.loop = loop
	r.loop.n = n
	if n <= rowChunk {
		r.chunk(0)
	} else {
		r.pool.Run((n+rowChunk-1)/rowChunk, r.chunkLoop)
	}
	r.loop = rowLoop{}
}

// chunk does one job of the loop.
func (r *Runner) chunk(c int) {
	for i := c * rowChunk; i < min((c+1)*rowChunk, r.loop.n); i++ {
		r.loop.f(r, i)
	}
}

// rows is each for a function that needs more than a loop carries.
func (r *Runner) rows(n int, f func(i int)) {
	r.each(n, rowLoop{f: func(_ *Runner, i int) { f(i) }})
}

func (r *Runner) norm(dst, x, w []float32, n int) {
	r.each(n, rowLoop{f: (*Runner).normRow, dst: dst, x: x, w: w})
}

func (r *Runner) normRow(i int) {
	l, d := &r.loop, len(r.loop.w)
	kernel.RMSNorm(l.dst[i*d:(i+1)*d], l.x[i*d:(i+1)*d], l.w, float32(r.model.Config.RMSNormEps))
}

// attendAll computes the attention of a layer for the n projected tokens of the batch into
// r.attn: at once, or in parts where a cache does not hold all positions of a sequence.
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
	b := &r.model.Blocks[layer]
	hd := c.HeadDim
	q := r.q[i*c.Heads*hd : (i+1)*c.Heads*hd]
	for h := range c.Heads {
		r.turn(q[h*hd:(h+1)*hd], b.QNorm, i)
	}
	for kv := range c.KVHeads {
		at := (i*c.KVHeads + kv) * hd
		r.turn(r.k[at:at+hd], b.KNorm, i)
		keys, values := cache.head(layer, kv, pos)
		copy(keys, r.k[at:at+hd])
		copy(values, r.v[at:at+hd])
	}
}

// turn norms a head of token i, where there are weights for it, and rotates it.
func (r *Runner) turn(x, norm []float32, i int) {
	if norm != nil {
		kernel.RMSNorm(x, x, norm, float32(r.model.Config.RMSNormEps))
	}
	kernel.Rope(x, r.cos[i], r.sin[i])
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

// maxScores bounds the scores that one task holds, in float32: about 1 MB, so
// that they stay in the second-level cache together with the keys.
const maxScores = 1 << 18

// maxQueries bounds the tokens of one task: all of them are multiplied with every key
// that the last one sees, which the others pay for in vain.
const maxQueries = 64

// queryBlock returns how many tokens of a sequence of n make a task of attention.
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

// attentionWeights turns a token's scores into the weights of the values. The token sees
// the keys [from, to); the others get 0.
func attentionWeights(scores []float32, from, to int, scale float32) {
	kernel.Softmax(scores[from:to], scale)
	clear(scores[:from])
	clear(scores[to:])
}

func (r *Runner) attend(w *attentionScratch, t attentionTask) {
	c, cache := r.model.Config, t.cache
	hd, group := c.HeadDim, c.Heads/c.KVHeads
	base := cache.Len + t.start // position of the task's first token
	window := c.Window(t.layer)
	first := firstKey(window, base)
	keys, values := cache.head(t.layer, t.kv, first)
	visible := base + t.length - first // keys up to the last token's
	rows := t.length * group           // one per token and query head, token by token
	scale := float32(1 / math.Sqrt(float64(hd)))
	width := group * hd

	w.q, w.scores, w.out = grow(w.q, rows*hd), grow(w.scores, rows*visible), grow(w.out, rows*hd)
	at := func(i int) int { return (t.first+t.start+i)*c.Heads*hd + t.kv*width }
	for i := range t.length {
		copy(w.q[i*width:(i+1)*width], r.q[at(i):at(i)+width])
	}
	w.mul.MulNT(rows, visible, hd, w.q, hd, keys, hd, w.scores, visible)
	for row := range rows {
		from, to := visibleKeys(window, base+row/group)
		attentionWeights(w.scores[row*visible:(row+1)*visible], from-first, to-first, scale)
	}
	w.mul.MulNN(rows, hd, visible, w.scores, visible, values, hd, w.out, hd)
	for i := range t.length {
		copy(r.attn[at(i):at(i)+width], w.out[i*width:(i+1)*width])
	}
}
