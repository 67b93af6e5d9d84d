package infer

import (
	"fmt"

	"afmq/pkg/compute"
)

// Segment is a run of tokens of one sequence. They follow the positions that the cache holds,
// and are appended to it.
type Segment struct {
	Cache  *Cache
	Tokens []int32
	// Model runs the tokens: the runner's model or a variant of it that [Model.WithAdapter]
	// returned, so that a pass may have sequences of several adapters. nil is the runner's model.
	// Segments of a model that are adjacent in the batch take the least time.
	Model *Model
	// Length is the length by which the frequencies of the scaled rotary embeddings longrope and
	// dynamic are chosen; 0 is that of the sequence after the pass. A prompt that is run in parts
	// has the bits of one that is run whole if each part has the length of the prompt.
	Length int
}

// Runner runs a model. It owns the buffers of a pass, which grow to the largest batch and are
// reused, so it serves one goroutine at a time.
type Runner struct {
	model *Model
	pool  *compute.Pool
	ropes []rotation // of [model.Config].Rope and, if there is one, of SlidingRope

	hidden, normed   []float32 // [n, hidden]
	q, attn          []float32 // [n, heads·head_dim]
	k, v             []float32 // [n, kv_heads·head_dim]
	gate, up         []float32 // [n, intermediate]
	fused            []float32 // [n, outputs], of a fused projection
	low              []float32 // [n, rank], of the projection applied last
	variants         []variant // the models of the rows; empty if r.model is that of all
	adapt            adaptation
	workers          []attentionScratch
	tasks            []attentionTask
	segmentOf, posOf []int // per token
	back             *backwardBuffers

	// The arguments of the current loop over rows, and the functions that read them: a closure
	// for each loop would be allocated each time.
	loop                             rowLoop
	chunkLoop, taskLoop, variantLoop func(worker, i int)

	onLayer func(tokens int) // nil for none
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

// tokenRange is the tokens [from, to) of every segment that has them.
type tokenRange struct{ from, to int }

// NewRunner returns a runner whose matrix products run on pool, in its arithmetic. nil is the
// shared pool of all cores, in F32. With a pool of [compute.Pool.WithContext], a pass ends with
// the context, and the runner must not be used afterwards.
func (m *Model) NewRunner(pool *compute.Pool) *Runner {
	r := &Runner{
		model:   m,
		pool:    pool,
		ropes:   newRotations(m.Config),
		workers: make([]attentionScratch, pool.Threads()),
	}
	r.chunkLoop = func(_, c int) { r.chunk(c) }
	r.variantLoop = func(_, i int) {
		if r.variants[i].n < alone {
			r.addVariant(i)
		}
	}
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

// begin sizes the buffers for the batch, looks up the rotations of its positions and returns the
// number of tokens. It panics if a segment does not fit its cache.
func (r *Runner) begin(batch []Segment) int {
	c := r.model.Config
	r.divide(batch)
	r.segmentOf, r.posOf = r.segmentOf[:0], r.posOf[:0]
	for k := range r.ropes {
		r.ropes[k].clear()
	}
	for s, seg := range batch {
		base, n := seg.Cache.Len, len(seg.Tokens)
		if base+n > seg.Cache.capacity {
			panic(fmt.Sprintf("infer: %d positions do not fit a cache of %d", base+n, seg.Cache.capacity))
		}
		length := seg.Length
		if length == 0 {
			length = base + n
		}
		for k := range r.ropes {
			r.ropes[k].append(base, n, length)
		}
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

// embed sets r.hidden to the input of the first layer.
func (r *Runner) embed(batch []Segment) {
	d, i := r.model.Config.HiddenSize, 0
	for _, seg := range batch {
		for _, id := range seg.Tokens {
			EmbedRow(r.model.Config, r.hidden[i*d:(i+1)*d], r.model.Embedding, int(id))
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

// rowChunk is how many rows of an element-wise operation one task has.
const rowChunk = 16

// each calls the loop's function for each of n rows, in parallel if there are enough.
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

// chunk runs one task of the loop.
func (r *Runner) chunk(c int) {
	for i := c * rowChunk; i < min((c+1)*rowChunk, r.loop.n); i++ {
		r.loop.f(r, i)
	}
}

// rows is each for a function that takes its arguments from a closure.
func (r *Runner) rows(n int, f func(i int)) {
	r.each(n, rowLoop{f: func(_ *Runner, i int) { f(i) }})
}
