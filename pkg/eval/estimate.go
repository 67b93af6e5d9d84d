package eval

import (
	"context"
	"time"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/estimate"
	"afmq/pkg/fault"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/infer"
	"afmq/pkg/model"
)

// Estimate predicts what [Run] takes, from a few seconds of measurements. Errors are fault.Usage, for a
// GGUF file as well, which it does not measure, and fault.Input.
func Estimate(ctx context.Context, opts Options) (*estimate.Estimate, error) {
	began := time.Now()
	if ggufmodel.Is(opts.Model) || ggufmodel.Is(opts.Reference) {
		return nil, fault.Usagef("an estimate needs the directory of a checkpoint or an artifact, not a GGUF file")
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	cfg, err := model.LoadConfig(opts.Model)
	if err != nil {
		return nil, err
	}
	tokenizer, err := model.OpenTokenizer(opts.Model, cfg)
	if err != nil {
		return nil, err
	}
	corpus, err := ReadCorpus(opts.Data, tokenizer, cfg.Separator())
	if err != nil {
		return nil, err
	}
	so := ScoreOptions{Protocol: opts.Protocol, Ctx: opts.Ctx, Stride: opts.Stride}
	if err := so.resolve([]*infer.Model{{Dir: opts.Model, Config: cfg, Tokenizer: tokenizer}}); err != nil {
		return nil, err
	}
	windows, err := so.windows(len(corpus.IDs))
	if err != nil {
		return nil, fault.Inputf(corpus.File, "%v", err)
	}
	run, scored := 0, 0
	for _, w := range windows {
		run, scored = run+w.len(), scored+w.scored()
	}
	e := &estimate.Estimate{PeakBytes: baseBytes}
	e.SetMachine(0, ".")
	arithmetic := opts.Arithmetic
	evaluate := 0.0
	for i, dir := range []string{opts.Model, opts.Reference} {
		if dir == "" {
			continue
		}
		if i == 1 && opts.ReferenceArithmetic != nil {
			arithmetic = *opts.ReferenceArithmetic
		}
		seconds, err := part(ctx, e, pool, dir, arithmetic, so.Ctx, run, scored)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			seconds *= float64(1 + len(opts.Adapters))
		}
		evaluate += seconds
	}
	e.Add(StageEvaluate, evaluate)
	e.Measured = time.Since(began).Seconds()
	return e, nil
}

// baseBytes is the resident memory of a process without weights.
const baseBytes = 40 << 20

// part adds the loading of one model and its memory, and returns the seconds that it takes to run
// over the tokens and to score some of them.
func part(ctx context.Context, e *estimate.Estimate, pool *compute.Pool, dir string, arithmetic compute.Arithmetic, length, run, scored int) (float64, error) {
	s, err := infer.OpenStream(dir, infer.OpenOptions{Pool: pool})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	r, err := s.Measure(ctx, pool, pool.With(arithmetic), length)
	if err != nil {
		return 0, err
	}
	bytes, c := s.Bytes(), s.Model.Config
	e.Add(infer.StageLoad, r.Load*float64(bytes))
	e.Add(artifact.StageHash, r.Hash*float64(bytes))
	batch := int64(min(run, infer.BatchTokens))
	q, kv := int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim)
	activations := 4 * batch * (2*int64(c.HiddenSize) + 2*q + 2*kv*int64(c.Layers+1) + 2*int64(c.IntermediateSize))
	e.PeakBytes += bytes*5/4 + activations + 8*int64(infer.LogitRows(c.VocabSize))*int64(c.VocabSize)
	return float64(run*c.Layers)*r.Forward + float64(scored)*r.Logits, nil
}
