package sensitivity

import (
	"context"
	"math/rand/v2"

	"afmq/internal/memory"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
)

// textRun runs the text through the 16-bit model, of which one layer is in memory at a time.
type textRun struct {
	stream *infer.Stream
	model  *infer.Model  // that of stream
	states *memory.Store // of hidden states
	runs   []run         // what runs, in the order of the text
	batch  int           // most sequences in a run
	budget int64         // bytes for a layer quantized under several options
}

// run is a batch of sequences, which run together. All are of one leaf and one unit of the text.
type run struct {
	first, count int // sequences of the text
	leaf         int
}

const (
	// unitTokens is the number of tokens of a unit, unless one sequence has more: of the sequences
	// that share a generator of random numbers.
	unitTokens = 2048
	// A text is divided into at most maxLeaves leaves, of leafTokens or more tokens or one sequence.
	// Sums over the text are made by leaf. A leaf is the least that a shard runs.
	maxLeaves  = 16
	leafTokens = 512
	// smallBatch is the bytes of activations below which a batch is not made smaller.
	smallBatch = 256 << 20
)

// leaves returns the number of leaves of a text.
func leaves(c *Calibration) int {
	return max(1, min(maxLeaves, len(c.Sequences), c.Tokens()/leafTokens))
}

// leafStart returns the first sequence of a leaf.
func leafStart(c *Calibration, leaf int) int { return len(c.Sequences) * leaf / leaves(c) }

// unitSequences returns the number of sequences in a unit.
func unitSequences(c *Calibration) int { return max(1, unitTokens/max(c.Record.SeqLen, 1)) }

// openText opens the model and chooses the size of a batch: so that its activations take no more
// memory than the weights of a layer.
func (s *scorer) openText(o *Options, pool *compute.Pool) (err error) {
	if s.stream, err = infer.OpenStream(o.Model, infer.OpenOptions{Pool: pool}); err != nil {
		return err
	}
	s.model = s.stream.Model
	layer := s.stream.LayerBytes()
	perSequence := int64(max(s.text.Record.SeqLen, 1)) * s.model.LayerBackBytes()
	s.batch = max(1, int(max(layer, smallBatch)/perSequence))
	s.runLeaves(0, leaves(s.text))
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

// runLeaves makes the leaves [from, to) those that run.
func (s *scorer) runLeaves(from, to int) {
	unit := unitSequences(s.text)
	s.runs = nil
	for leaf := from; leaf < to; leaf++ {
		end := leafStart(s.text, leaf+1)
		for at := leafStart(s.text, leaf); at < end; {
			n := min(end-at, unit-at%unit, s.batch)
			s.runs = append(s.runs, run{at, n, leaf})
			at += n
		}
	}
}

// sequences returns those that run.
func (s *scorer) sequences() [][]int32 {
	last := s.runs[len(s.runs)-1]
	return s.text.Sequences[s.runs[0].first : last.first+last.count]
}

// newWalk starts a walk of what runs, whose products run on pool. The embedding is in memory only
// meanwhile.
func (s *scorer) newWalk(ctx context.Context, pool *compute.Pool) (*infer.Walk, error) {
	if err := s.stream.LoadEmbedding(ctx); err != nil {
		return nil, err
	}
	defer s.stream.DropEmbedding()
	var sizes []int
	for _, r := range s.runs {
		sizes = append(sizes, r.count)
	}
	return s.model.NewWalk(s.sequences(), infer.WalkOptions{Pool: pool, Batches: sizes, Memory: s.states, Steps: s.method == Hessian})
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

// random returns the generator for a sample of a run, advanced to its first token: the draws do not
// depend on where a run begins.
func (s *scorer) random(r run, sample int) *rand.Rand {
	unit := r.first / unitSequences(s.text)
	rng := rand.New(rand.NewPCG(uint64(s.seed), uint64(unit)<<16|uint64(sample)))
	for _, seq := range s.text.Sequences[unit*unitSequences(s.text) : r.first] {
		for range seq {
			rng.Float64()
		}
	}
	return rng
}

// tokens returns the number of tokens that run.
func (s *scorer) tokens() int64 {
	n := 0
	for _, seq := range s.sequences() {
		n += len(seq)
	}
	return int64(n)
}
