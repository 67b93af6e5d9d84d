package infer

import (
	"context"
	"slices"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// StageSample is the stage of [Model.SampleTexts].
const StageSample = "sample text"

// SampleTexts generates n texts of at most length tokens each, in one batch, sampled from the
// model's distribution (temperature 1). Each starts after an end-of-sequence token and ends
// before the next. The model's perplexity on them is the exponential of its entropy, whatever
// it was trained on, so that they can serve as evaluation text if there is no other. pool
// and p may be nil. Errors are of kind [fault.Input] for a model without an end-of-sequence token, of kind
// [fault.Usage] for a length that exceeds its context, and ctx.Err().
func (m *Model) SampleTexts(ctx context.Context, pool *compute.Pool, n, length int, seed uint64, p progress.Reporter) (texts []string, err error) {
	if len(m.Config.EOS) == 0 {
		return nil, fault.Inputf(m.Dir, "config.json names no end-of-sequence token, which a sampled text starts with")
	}
	if length < 1 || length > m.Config.MaxPositions {
		return nil, fault.Usagef("texts of %d tokens exceed the model's %d positions", length, m.Config.MaxPositions)
	}
	p = progress.Begin(p, StageSample)
	p.Stage(progress.Stage{Name: StageSample, Work: int64(length)})
	defer p.Done()
	defer compute.Recover(&err)
	runner := m.NewRunner(pool.WithContext(ctx))
	ids := make([][]int32, n)
	samplers := make([]Sampler, n)
	live := make([]int, n) // indices of the texts that have not ended
	batch := make([]Segment, n)
	for i := range n {
		samplers[i].Temperature = 1
		samplers[i].Seed(seed + uint64(i))
		live[i] = i
		batch[i] = Segment{Cache: m.NewCache(length), Tokens: m.Config.EOS[:1]}
	}
	vocab, limit := m.Config.VocabSize, int(m.Tokenizer.MaxID())+1
	logits := make([]float32, n*vocab)
	for step := 0; step < length && len(live) > 0; step++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		runner.Logits(logits, runner.Forward(batch[:len(live)]), len(live))
		kept := 0
		for row, i := range live {
			id := samplers[i].Next(logits[row*vocab:(row+1)*vocab], limit)
			if slices.Contains(m.Config.EOS, id) {
				continue
			}
			ids[i] = append(ids[i], id)
			live[kept] = i
			batch[kept] = Segment{Cache: batch[row].Cache, Tokens: ids[i][len(ids[i])-1:]}
			kept++
		}
		live = live[:kept]
		p.Advance(1)
	}
	texts = make([]string, n)
	for i := range texts {
		texts[i] = m.Tokenizer.Decode(ids[i], true)
	}
	return texts, nil
}
