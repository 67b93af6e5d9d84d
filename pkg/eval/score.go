package eval

import (
	"context"
	"slices"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// StageEvaluate is the stage of [Score].
const StageEvaluate = "evaluate"

// DefaultCtx is the number of tokens in a window where the options give none and the models have
// as many positions.
const DefaultCtx = 512

// ScoreOptions are the options of [Score] and [ScoreAll]. The zero value works.
type ScoreOptions struct {
	Protocol Protocol // empty for Chunk
	Ctx      int      // tokens in a window; 0 for min(512, max_position_embeddings)
	Stride   int      // tokens between the starts of windows, for protocol stride; 0 for ctx/2

	// Reference is the model that the scored ones are compared with; nil for none. It must
	// have the same tokenizer ([model.SameTokenizer]).
	Reference *infer.Model
	// ReferenceArithmetic is that of the reference's products; nil for that of Pool.
	ReferenceArithmetic *compute.Arithmetic

	Pool     *compute.Pool     // with the arithmetic of the models' products; nil for Threads workers in F32
	Threads  int               // where Pool is nil; 0 for all cores
	Progress progress.Reporter // nil for none
}

// Score runs the model over the corpus and returns its loss, and how it compares with the
// reference if there is one. Logits are reduced in blocks and not kept. Errors are of kind
// [fault.Usage] for options that the model does not allow, of kind [fault.Input] for a corpus
// that is too short or has ids outside the vocabulary and for a loss that is not finite, and
// ctx.Err().
func Score(ctx context.Context, model *infer.Model, corpus *Corpus, opts ScoreOptions) (*Result, error) {
	r, err := ScoreAll(ctx, []*infer.Model{model}, corpus, opts)
	if err != nil {
		return nil, err
	}
	return r[0], nil
}

// ScoreAll is [Score] for several models of one tokenizer and vocabulary, such as one model
// with different adapters, in the order given. The reference runs once for all of them, and
// models that share a config share the buffers of their passes. Each result has the bits of a
// [Score] of its own, times aside.
func ScoreAll(ctx context.Context, models []*infer.Model, corpus *Corpus, opts ScoreOptions) (out []*Result, err error) {
	defer compute.Recover(&err)
	if err := opts.resolve(models); err != nil {
		return nil, err
	}
	if err := corpus.check(models[0].Config.VocabSize); err != nil {
		return nil, err
	}
	windows, err := opts.windows(len(corpus.IDs))
	if err != nil {
		return nil, fault.Inputf(corpus.File, "%v", err)
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	e := newEvaluator(pool.WithContext(ctx), models, corpus, opts, windows)
	opts.Progress.Stage(progress.Stage{Name: StageEvaluate, Work: e.work()})
	defer opts.Progress.Done()
	for first, end := range infer.Batches(len(windows), infer.BatchTokens, func(i int) int { return windows[i].len() }) {
		if err := e.run(ctx, windows[first:end]); err != nil {
			return nil, err
		}
	}
	ref, err := e.ofReference(windows)
	if err != nil {
		return nil, err
	}
	out = make([]*Result, len(models))
	for i, m := range e.models {
		if out[i], err = e.result(m, ref, windows); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// resolve fills in the defaults and checks the options against the models.
func (o *ScoreOptions) resolve(models []*infer.Model) error {
	if len(models) == 0 {
		return fault.Usagef("no model to evaluate")
	}
	all := models
	if o.Reference != nil {
		all = append(slices.Clone(models), o.Reference)
	}
	first := models[0].Config
	positions := first.MaxPositions
	for _, m := range all {
		if n := m.Config.VocabSize; n != first.VocabSize {
			return fault.Inputf(m.Dir, "has a vocabulary of %d; that of %s is %d", n, models[0].Dir, first.VocabSize)
		}
		positions = min(positions, m.Config.MaxPositions)
	}
	if o.Protocol == "" {
		o.Protocol = Chunk
	}
	if o.Protocol == LlamaCpp && models[0].Tokenizer == nil {
		return fault.Usagef("protocol %s needs a model with a tokenizer", LlamaCpp)
	}
	if o.Ctx == 0 {
		o.Ctx = min(DefaultCtx, positions)
	}
	if o.Protocol == Stride && o.Stride == 0 {
		o.Stride = max(o.Ctx/2, 1)
	}
	o.Progress = progress.Begin(o.Progress, StageEvaluate)
	return o.check(positions)
}
