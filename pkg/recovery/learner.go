package recovery

import (
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

// learner is what a run trains: an adapter, or the numbers that an artifact stores.
type learner interface {
	state() *trained
	// visitors returns what adds the gradients of a batch to those of the state.
	visitors() visitors
	// precondition converts gradients to those that the optimizer takes.
	precondition(pool *compute.Pool)
	// pack prepares weights, laid out as those of the state, for attach. An adapter rounds them to the
	// type that it is stored in, or keeps them in F32.
	pack(pool *compute.Pool, weights []float32, stored safetensors.DType)
	// attach makes a model run with the weights as last packed.
	attach(m *infer.Model)
	// backWork returns the work of the backward pass for one token.
	backWork() int64
}

// trained are the values of a learner and what the optimizer keeps beside them, of equal lengths.
type trained struct {
	name           string // of its tensors in a saved state
	rank           int    // of an adapter, else 0
	weights, grads []float32
	m, v           []float32 // AdamW's moments
	epsilon        float64   // AdamW's, beside the root mean square of a gradient
}

func (t *trained) state() *trained { return t }

// allocate makes room for n values.
func (t *trained) allocate(n int) {
	for _, v := range []*[]float32{&t.weights, &t.grads, &t.m, &t.v} {
		*v = make([]float32, n)
	}
}

// visitors receive the gradients of a batch. Those that are nil are not called.
type visitors struct {
	infer.Visitors
	// logits receives hidden states after the final norm, [n, hidden], and the gradient by their
	// logits, [n, vocab].
	logits func(hidden, grad []float32, n int)
	// embeddings receives the tokens of a batch and the gradient by their embeddings, [n, hidden].
	embeddings func(tokens []int32, grad []float32)
}
