package recovery

import "afmq/pkg/infer"

// batchBuffers holds the caches of a batch, its targets and the teacher's hidden states, for reuse.
type batchBuffers struct {
	student, teacher []*infer.Cache
	hidden           []float32
	targets          []int32
}

// teach sets the targets of a batch and, with ask, returns the teacher's hidden states of it
// [tokens, hidden]; nil without a teacher.
func (t *trainer) teach(sequences [][]int32, ask bool) []float32 {
	t.batch.targets = t.batch.targets[:0]
	for _, s := range sequences {
		t.batch.targets = append(t.batch.targets, s[1:]...)
	}
	if !ask || t.teacher == nil {
		return nil
	}
	hidden := t.teacher.Forward(t.segments(t.teacher.Model(), &t.batch.teacher, sequences))
	t.batch.hidden = append(t.batch.hidden[:0], hidden...)
	return t.batch.hidden
}

// segments returns the batch of the sequences, each without its last token, which is only a
// target.
func (t *trainer) segments(m *infer.Model, caches *[]*infer.Cache, sequences [][]int32) []infer.Segment {
	batch := make([]infer.Segment, len(sequences))
	for i, s := range sequences {
		if i == len(*caches) {
			*caches = append(*caches, m.NewCache(t.opts.SeqLen))
		}
		(*caches)[i].Reset()
		batch[i] = infer.Segment{Cache: (*caches)[i], Tokens: s[:len(s)-1]}
	}
	return batch
}
