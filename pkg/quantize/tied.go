package quantize

import (
	"context"

	"afmq/internal/kernel"
	"afmq/pkg/gptq"
	"afmq/pkg/infer"
	"afmq/pkg/model"
)

// tiedShare is the part of the mean of the Hessian's diagonal that is added to it for an embedding
// that is also the head: its rows are inputs of the model too, where no direction is exempt from
// errors.
const tiedShare = 0.3

// tiedFactor returns the statistics of the input of a head that shares the embedding's weights: the
// final hidden states of the original model, since the embedding is quantized before any other
// matrix. The model's weights are read one layer at a time. reason says why there are none.
func (pl *pipeline) tiedFactor(ctx context.Context, run int) (f *gptq.Factor, reason, err error) {
	j := pl.job
	cfg := j.src.Config
	s := side{model: &infer.Model{Config: cfg, Blocks: make([]infer.Block, cfg.Layers)}, compute: j.opts.Compute}
	byLayer := map[int][]*item{}
	for i := range j.items {
		it := &j.items[i]
		byLayer[it.Spec.Layer] = append(byLayer[it.Spec.Layer], it)
	}
	set := func(layer int) error {
		for _, it := range byLayer[layer] {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := it.setSource(s.model); err != nil {
				return err
			}
		}
		return nil
	}
	if err := set(-1); err != nil {
		return nil, nil, err
	}
	for layer := range cfg.Layers {
		if err := set(layer); err != nil {
			return nil, nil, err
		}
		if err := s.advance(pl.pool, j.text, pl.text.states, layer+1); err != nil {
			return nil, nil, err
		}
	}
	n := cfg.HiddenSize
	h := make([]float32, n*n)
	spec := model.TensorSpec{Role: model.Head}
	for b := range s.walk.Batches() {
		pl.pool.AddGram(h, s.batchInput(spec, b), s.walk.Tokens(b), n)
	}
	kernel.Symmetrize(h, n)
	addTied(h, n)
	f, reason = gptq.NewFactor(pl.pool, h, n, gptq.Damping(n, j.text.Tokens()), run)
	return f, reason, nil
}

// addTied makes h [n, n], the second moment of the input of a head, that of an embedding that is also
// the head.
func addTied(h []float32, n int) {
	mean := float32(0)
	for i := range n {
		mean += h[i*n+i] / float32(n)
	}
	for i := range n {
		h[i*n+i] += tiedShare * mean
	}
}
