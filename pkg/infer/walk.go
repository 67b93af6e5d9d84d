package infer

import (
	"fmt"

	"afmq/pkg/compute"
)

// Walk runs sequences through a model one layer at a time, and all of them through a step of a
// layer before the next step: quantization layer by layer chooses the weights of a step by the
// activations that the step before computed. It holds the hidden states of all tokens. It
// reads the model's blocks when a step runs, so a caller may set and clear them between steps
// and hold the weights of one layer at a time.
//
// The steps of a layer, for every batch, are AttentionIn, AttentionOut, FeedForwardIn and
// FeedForwardOut; Advance moves to the next layer. A step runs the earlier ones that were left
// out, and may be repeated for a batch until the next one has run.
type Walk struct {
	model  *Model
	runner *Runner
	memory Memory
	layer  int
	parts  []walkPart
	tape   layerTape // of one batch, for LayerBack
}

// WalkOptions are the options of [Model.NewWalk]. The zero value works.
type WalkOptions struct {
	Pool    *compute.Pool // nil for the shared pool of all cores, in F32
	Batches []int         // sequences in each batch; nil: as many as have [BatchTokens] tokens
	Memory  Memory        // keeps the hidden states of all tokens; nil for the heap
	// Steps says that steps of a layer will be asked for: Memory then keeps the inputs of o, too, which
	// otherwise are on the heap.
	Steps bool
}

// Memory keeps values between the steps of a walk, for example in a file.
type Memory interface {
	// Floats returns n zeros that stay the caller's until the memory is closed.
	Floats(n int) ([]float32, error)
	// Idle says that v, which Floats returned, will not be used for a while.
	Idle(v []float32)
}

// heap is the Memory of a walk that names none.
type heap struct{}

func (heap) Floats(n int) ([]float32, error) { return make([]float32, n), nil }
func (heap) Idle([]float32)                  {}

// walkPart is a batch of sequences.
type walkPart struct {
	segments []Segment
	tokens   int
	hidden   []float32 // [tokens, hidden] at the start of the layer, or after its attention
	attn     []float32 // [tokens, heads·head_dim]
	at       walkStep  // what hidden and attn hold
}

type walkStep uint8

const (
	atStart       walkStep = iota // hidden is the layer's input
	atAttention                   // attn is the input of o
	atFeedForward                 // hidden has the output of attention added
)

// NewWalk starts a walk of the sequences, token ids. It reads the model's embedding, which is not
// needed afterwards. The error is that of the memory.
func (m *Model) NewWalk(sequences [][]int32, opts WalkOptions) (*Walk, error) {
	w := &Walk{model: m, runner: m.NewRunner(opts.Pool), memory: opts.Memory}
	if w.memory == nil {
		w.memory = heap{}
	}
	longest := 0
	for _, s := range sequences {
		longest = max(longest, len(s))
	}
	sizes := opts.Batches
	if sizes == nil {
		for first, end := range Batches(len(sequences), BatchTokens, func(i int) int { return len(sequences[i]) }) {
			sizes = append(sizes, end-first)
		}
	}
	first := 0
	for _, n := range sizes {
		end := first + n
		p := walkPart{}
		for _, s := range sequences[first:end] {
			p.segments = append(p.segments, Segment{Tokens: s})
			p.tokens += len(s)
		}
		first = end
		if err := w.embed(&p); err != nil {
			return nil, err
		}
		if opts.Steps {
			var err error
			if p.attn, err = w.memory.Floats(p.tokens * m.Config.Heads * m.Config.HeadDim); err != nil {
				return nil, err
			}
		}
		w.parts = append(w.parts, p)
	}
	// Keys and values are needed only while a batch runs through a layer.
	var caches []*Cache
	for i := range w.parts {
		for k := range w.parts[i].segments {
			if k == len(caches) {
				caches = append(caches, m.newLayerCache(longest))
			}
			w.parts[i].segments[k].Cache = caches[k]
		}
	}
	return w, nil
}

// embed sets the hidden states of a batch to the input of the first layer.
func (w *Walk) embed(p *walkPart) (err error) {
	d, i := w.model.Config.HiddenSize, 0
	if p.hidden, err = w.memory.Floats(p.tokens * d); err != nil {
		return err
	}
	for _, s := range p.segments {
		for _, id := range s.Tokens {
			EmbedRow(w.model.Config, p.hidden[i*d:(i+1)*d], w.model.Embedding, int(id))
			i++
		}
	}
	w.memory.Idle(p.hidden)
	return nil
}

// Batches returns the number of batches.
func (w *Walk) Batches() int { return len(w.parts) }

// Tokens returns the number of tokens of a batch.
func (w *Walk) Tokens(batch int) int { return w.parts[batch].tokens }

// Layer returns the index of the current layer, or the number of layers at the end of the walk.
func (w *Walk) Layer() int { return w.layer }

// load copies the hidden states of a batch into the runner. It panics if the batch is past the
// step last.
func (w *Walk) load(batch int, last walkStep) *walkPart {
	p := &w.parts[batch]
	if p.at > last {
		panic(fmt.Sprintf("infer: Walk: batch %d is past the step", batch))
	}
	w.runner.begin(p.segments)
	copy(w.runner.hidden, p.hidden)
	return p
}

// AttentionIn returns the input of q, k and v for a batch, [tokens, hidden]. The result of a
// step is valid until the next step runs.
func (w *Walk) AttentionIn(batch int) []float32 {
	p := w.load(batch, atStart)
	w.runner.attentionIn(w.layer, p.tokens)
	return w.runner.normed[:p.tokens*w.model.Config.HiddenSize]
}

// AttentionOut runs attention and returns the input of o, [tokens, heads·head_dim].
func (w *Walk) AttentionOut(batch int) []float32 {
	p := w.load(batch, atAttention)
	r, c := w.runner, w.model.Config
	if p.at == atStart {
		r.attentionIn(w.layer, p.tokens)
		r.attentionOut(p.segments, w.layer, p.tokens)
		if p.attn == nil {
			p.attn = make([]float32, p.tokens*c.Heads*c.HeadDim)
		}
		copy(p.attn, r.attn)
		p.at = atAttention
	}
	return p.attn
}

// FeedForwardIn adds the output of attention to the hidden states and returns the input of gate
// and up, [tokens, hidden].
func (w *Walk) FeedForwardIn(batch int) []float32 {
	if w.parts[batch].at == atStart {
		w.AttentionOut(batch)
	}
	p := w.load(batch, atFeedForward)
	r := w.runner
	if p.at == atAttention {
		copy(r.attn, p.attn)
		r.addAttention(w.layer, p.tokens)
		copy(p.hidden, r.hidden)
		p.at = atFeedForward
	}
	r.feedForwardIn(w.layer, p.tokens)
	return r.normed[:p.tokens*w.model.Config.HiddenSize]
}

// FeedForwardOut returns the input of down, [tokens, intermediate].
func (w *Walk) FeedForwardOut(batch int) []float32 {
	w.FeedForwardIn(batch)
	r, p := w.runner, &w.parts[batch]
	r.feedForwardOut(w.layer, p.tokens)
	return r.gate[:p.tokens*w.model.Config.IntermediateSize]
}

// Input returns the input of a projection of the current layer for a batch, [tokens, in].
func (w *Walk) Input(kind string, batch int) []float32 {
	switch kind {
	case "q_proj", "k_proj", "v_proj", "qkv_proj":
		return w.AttentionIn(batch)
	case "o_proj":
		return w.AttentionOut(batch)
	case "gate_proj", "up_proj", "gate_up_proj":
		return w.FeedForwardIn(batch)
	case "down_proj":
		return w.FeedForwardOut(batch)
	}
	panic("infer: unknown projection " + kind)
}

// Hidden returns the current hidden states of a batch, [tokens, hidden].
func (w *Walk) Hidden(batch int) []float32 { return w.parts[batch].hidden }

// Advance runs the remaining steps of the current layer for every batch and moves to the next
// layer.
func (w *Walk) Advance() {
	r := w.runner
	for i := range w.parts {
		p := &w.parts[i]
		if p.at == atStart { // no step of this layer was asked for
			w.load(i, atStart)
			r.attentionIn(w.layer, p.tokens)
			r.attentionOut(p.segments, w.layer, p.tokens)
			r.addAttention(w.layer, p.tokens)
			r.feedForwardIn(w.layer, p.tokens)
			r.feedForwardOut(w.layer, p.tokens)
		} else {
			w.FeedForwardOut(i)
		}
		r.addFeedForward(w.layer, p.tokens)
		copy(p.hidden, r.hidden)
		w.memory.Idle(p.hidden)
		w.memory.Idle(p.attn)
		p.at = atStart
		r.layerDone(p.tokens)
	}
	w.layer++
}

// OnLayer makes the walk call f after each batch of [Walk.Advance], with the number of tokens.
func (w *Walk) OnLayer(f func(tokens int)) { w.runner.OnLayer(f) }

// Final returns the hidden states of a batch after the final norm, [tokens, hidden]. They are valid
// until the walk's next call. It panics before the end of the walk.
func (w *Walk) Final(batch int) []float32 {
	if w.layer != w.model.Config.Layers {
		panic("infer: Walk: Final before the end")
	}
	p := w.load(batch, atStart)
	w.runner.norm(w.runner.normed, w.runner.hidden, w.model.FinalNorm, p.tokens)
	return w.runner.normed[:p.tokens*w.model.Config.HiddenSize]
}

// Fork returns a walk at the beginning of the same layer, with hidden states of its own, through m,
// a model of the same Config. It panics if the walk is in the middle of a layer. The error is that
// of the memory.
func (w *Walk) Fork(m *Model) (*Walk, error) {
	if m.Config != w.model.Config {
		panic("infer: Walk: Fork: the model has another config")
	}
	f := &Walk{model: m, runner: m.NewRunner(w.runner.pool), memory: w.memory}
	for _, p := range w.parts {
		hidden, err := w.memory.Floats(len(p.hidden))
		if err != nil {
			return nil, err
		}
		f.parts = append(f.parts, walkPart{segments: p.segments, tokens: p.tokens, hidden: hidden})
	}
	f.Join(w)
	return f, nil
}

// Join moves a walk that [Walk.Fork] returned to where w is, with its hidden states.
func (f *Walk) Join(w *Walk) {
	for i := range w.parts {
		if w.parts[i].at != atStart {
			panic("infer: Walk: Join in the middle of a layer")
		}
		copy(f.parts[i].hidden, w.parts[i].hidden)
		f.parts[i].at = atStart
	}
	f.layer = w.layer
}

// FinalBack computes the gradient with respect to the output of the last layer from grad, that with
// respect to [Walk.Final] of a batch, in place, [tokens, hidden].
func (w *Walk) FinalBack(batch int, grad []float32) {
	if w.layer != w.model.Config.Layers {
		panic("infer: Walk: FinalBack before the end")
	}
	p := w.load(batch, atStart)
	w.runner.finalBack(grad, w.runner.hidden, p.tokens, nil)
}

// LayerBack propagates grad, the gradient of a loss with respect to the output of a layer for a
// batch, [tokens, hidden], to its input, in place, and calls visit for the projections of the layer;
// see [Runner.Backward]. in is what [Walk.Hidden] was at the beginning of the layer, [tokens, hidden],
// from which the layer runs once more. It neither reads nor changes where the walk is.
func (w *Walk) LayerBack(layer, batch int, in, grad []float32, visit Visitor) {
	p := &w.parts[batch]
	w.tape.in = in
	w.runner.rerun(p.segments, layer, &w.tape, p.tokens, true)
	w.runner.backward().grow(w.model.Config, p.tokens)
	w.runner.layerBack(p.segments, layer, &w.tape, grad, p.tokens, Visitors{Projections: visit})
}
