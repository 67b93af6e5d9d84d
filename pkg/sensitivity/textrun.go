package sensitivity

import (
	"context"

	"afmq/internal/memory"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
)

// textRun runs the text through the 16-bit model, of which one layer is in memory at a time.
type textRun struct {
	stream *infer.Stream
	model  *infer.Model  // that of stream
	states *memory.Store // of hidden states
	// sequences are those of the text that run, from the unit firstUnit on.
	sequences [][]int32
	firstUnit int
	// unit is the number of sequences that share a generator of random numbers, and batch that of
	// the sequences that run together, of which unit is a multiple.
	unit, batch int
	budget      int64 // bytes for a layer quantized under several options
}

const (
	unitTokens = 2048 // in a unit, unless one sequence has more
	// smallBatch is the bytes of activations below which a batch is not made smaller.
	smallBatch = 256 << 20
)

// openText opens the model and chooses the size of a batch: so that its activations take no more
// memory than the weights of a layer.
func (s *scorer) openText(o *Options, pool *compute.Pool) (err error) {
	if s.stream, err = infer.OpenStream(o.Model, infer.OpenOptions{Pool: pool}); err != nil {
		return err
	}
	s.model = s.stream.Model
	layer := s.stream.LayerBytes()
	length := max(s.text.Record.SeqLen, 1)
	s.unit = unitSequences(s.text)
	s.sequences = s.text.Sequences
	s.batch = s.unit
	perSequence := int64(length) * s.model.LayerBackBytes()
	for s.batch > 1 && (s.unit%s.batch != 0 || int64(s.batch)*perSequence > max(layer, smallBatch)) {
		s.batch--
	}
	most := memory.Budget(o.Memory)
	// A layer, its quantized forms, the activations of a batch, embedding and head.
	working := 5*layer/2 + 2*s.stream.EndBytes()
	s.states = memory.NewStore(max(0, most-working)/2, o.Scratch)
	s.budget = max(layer, most/4)
	return nil
}

// closeText ends what openText began, if it did.
func (s *scorer) closeText() {
	if s.stream != nil {
		s.stream.Close()
		s.states.Close()
	}
}

// newWalk starts a walk of the text, whose products run on pool. The embedding is in memory only meanwhile.
func (s *scorer) newWalk(ctx context.Context, pool *compute.Pool) (*infer.Walk, error) {
	if err := s.stream.LoadEmbedding(ctx); err != nil {
		return nil, err
	}
	defer s.stream.DropEmbedding()
	return s.model.NewWalk(s.sequences, infer.WalkOptions{Pool: pool, BatchTokens: s.batch * max(s.text.Record.SeqLen, 1), Memory: s.states})
}

// advance moves a walk of the model to the beginning of a layer.
func (s *scorer) advance(ctx context.Context, w *infer.Walk, layer int) error {
	for w.Layer() < layer {
		at := w.Layer()
		if err := s.stream.LoadLayer(ctx, at); err != nil {
			return err
		}
		w.Advance()
		s.stream.DropLayer(at)
	}
	return ctx.Err()
}

// unitSequences returns the number of sequences in a unit.
func unitSequences(c *Calibration) int { return max(1, unitTokens/max(c.Record.SeqLen, 1)) }

// unitOf returns the unit that a batch of a walk belongs to, counted from the first that runs.
func (s *scorer) unitOf(batch int) int { return batch * s.batch / s.unit }

// tokens returns the number of tokens that run.
func (s *scorer) tokens() int64 {
	n := 0
	for _, seq := range s.sequences {
		n += len(seq)
	}
	return int64(n)
}
