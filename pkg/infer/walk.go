package infer

import (
	"fmt"
	"slices"

	"afmq/pkg/compute"
	"afmq/pkg/model"
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
	layer  int
	parts  []walkPart
}

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

// NewWalk starts a walk of the sequences, token ids, in batches of at most [BatchTokens] tokens
// or one longer sequence. pool may be nil.
func (m *Model) NewWalk(pool *compute.Pool, sequences [][]int32) *Walk {
	w := &Walk{model: m, runner: m.NewRunner(pool)}
	d := m.Config.HiddenSize
	longest := 0
	for _, s := range sequences {
		longest = max(longest, len(s))
	}
	for first, end := range Batches(len(sequences), BatchTokens, func(i int) int { return len(sequences[i]) }) {
		p := walkPart{}
		for _, s := range sequences[first:end] {
			p.segments = append(p.segments, Segment{Tokens: s})
			p.tokens += len(s)
		}
		p.hidden = make([]float32, p.tokens*d)
		i := 0
		for _, s := range p.segments {
			for _, id := range s.Tokens {
				m.Embedding.Row(p.hidden[i*d:(i+1)*d], int(id))
				i++
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
	return w
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
		p.attn = append(p.attn[:0], r.attn[:p.tokens*c.Heads*c.HeadDim]...)
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
	group := model.InputGroup(kind)
	switch {
	case slices.Contains(group, "q_proj"):
		return w.AttentionIn(batch)
	case slices.Contains(group, "o_proj"):
		return w.AttentionOut(batch)
	case slices.Contains(group, "gate_proj"):
		return w.FeedForwardIn(batch)
	case slices.Contains(group, "down_proj"):
		return w.FeedForwardOut(batch)
	}
	panic("infer: unknown projection " + kind)
}

// Hidden returns the current hidden states of a batch, [tokens, hidden].
func (w *Walk) Hidden(batch int) []float32 { return w.parts[batch].hidden }

// Advance runs the remaining steps of the current layer for every batch and moves to the next
// layer.
func (w *Walk) Advance() {
	for i := range w.parts {
		w.FeedForwardOut(i)
		p := &w.parts[i]
		w.runner.addFeedForward(w.layer, p.tokens)
		copy(p.hidden, w.runner.hidden)
		p.at = atStart
	}
	w.layer++
}

// Finish runs the layers from the current one on, and the final norm, over a batch, and returns
// its hidden states, [tokens, hidden]. It does not advance the walk. r runs the walk's model or
// another of the same shape. It panics if the batch is in the middle of the layer.
func (w *Walk) Finish(r *Runner, batch int) []float32 {
	p := &w.parts[batch]
	if p.at != atStart {
		panic("infer: Walk: Finish in the middle of a layer")
	}
	n := r.begin(p.segments)
	copy(r.hidden, p.hidden)
	h := r.from(w.layer, p.segments, n)
	for _, s := range p.segments {
		s.Cache.Reset()
	}
	return h
}
