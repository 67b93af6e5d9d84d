package infer

import (
	"fmt"
	"slices"

	"afmq/pkg/compute"
	"afmq/pkg/model"
)

// Walk takes sequences through a model one layer at a time, all of them through
// each step before any goes on to the next: what quantizing a model layer by layer
// needs, where a step's weights are chosen by what the step before computed. It
// holds the hidden states of all tokens, and the weights of the current layer only
// if the caller keeps no others: the blocks of the model are looked at when a step
// runs, so they may be set and cleared between steps.
//
// In each layer the steps are, for every batch: AttentionIn, AttentionOut,
// FeedForwardIn, FeedForwardOut, and Advance, after which the walk is at the next
// layer. A step makes up for those before it that were left out, and may be run again for a batch as long as the next one has not been.
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
	at       walkStep
}

type walkStep uint8

const (
	atStart walkStep = iota // hidden is what the layer begins with
	atAttention
	atFeedForward
)

// NewWalk starts a walk of the sequences, in batches of at most [BatchTokens]
// tokens or one sequence.
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
	// Keys and values are needed only while one batch passes one layer.
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

// Layer returns the number of the current layer; that of layers when the walk has
// passed them all.
func (w *Walk) Layer() int { return w.layer }

// load puts a batch into the runner, unless it is past the given step.
func (w *Walk) load(batch int, last walkStep) (*walkPart, *Block) {
	p := &w.parts[batch]
	if p.at > last {
		panic(fmt.Sprintf("infer: Walk: batch %d is past the step", batch))
	}
	w.runner.begin(p.segments)
	copy(w.runner.hidden, p.hidden)
	return p, &w.model.Blocks[w.layer]
}

// AttentionIn returns the input of q, k and v for a batch, [tokens, hidden]. What a
// step returns is valid until the next one runs.
func (w *Walk) AttentionIn(batch int) []float32 {
	p, b := w.load(batch, atStart)
	w.runner.attentionIn(b, p.tokens)
	return w.runner.normed[:p.tokens*w.model.Config.HiddenSize]
}

// AttentionOut runs attention and returns the input of o, [tokens, heads·head_dim].
func (w *Walk) AttentionOut(batch int) []float32 {
	p, b := w.load(batch, atAttention)
	r, c := w.runner, w.model.Config
	if p.at == atStart {
		r.attentionIn(b, p.tokens)
		r.attentionOut(b, p.segments, w.layer, p.tokens)
		p.attn = append(p.attn[:0], r.attn[:p.tokens*c.Heads*c.HeadDim]...)
		p.at = atAttention
	}
	return p.attn
}

// FeedForwardIn adds the result of attention to the hidden states and returns the
// input of gate and up, [tokens, hidden].
func (w *Walk) FeedForwardIn(batch int) []float32 {
	if w.parts[batch].at == atStart {
		w.AttentionOut(batch)
	}
	p, b := w.load(batch, atFeedForward)
	r := w.runner
	if p.at == atAttention {
		copy(r.attn, p.attn)
		r.addAttention(b, p.tokens)
		copy(p.hidden, r.hidden)
		p.at = atFeedForward
	}
	r.feedForwardIn(b, p.tokens)
	return r.normed[:p.tokens*w.model.Config.HiddenSize]
}

// FeedForwardOut returns the input of down, [tokens, intermediate].
func (w *Walk) FeedForwardOut(batch int) []float32 {
	w.FeedForwardIn(batch)
	r, p := w.runner, &w.parts[batch]
	r.feedForwardOut(&w.model.Blocks[w.layer], p.tokens)
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
	panic("infer: no projection is called " + kind)
}

// Hidden returns the hidden states of a batch where they stand, [tokens, hidden].
func (w *Walk) Hidden(batch int) []float32 { return w.parts[batch].hidden }

// Advance runs what is left of the current layer for every batch and goes to the next.
func (w *Walk) Advance() {
	for i := range w.parts {
		w.FeedForwardOut(i)
		p := &w.parts[i]
		w.runner.addFeedForward(&w.model.Blocks[w.layer], p.tokens)
		copy(p.hidden, w.runner.hidden)
		p.at = atStart
	}
	w.layer++
}

// Finish runs the rest of the model, from the current layer on, over a batch whose
// layer has not begun, and returns the hidden states after the final norm, [tokens,
// hidden]. The walk stays where it is. Another model of the same shape may take the
// place of the walk's own for this.
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
