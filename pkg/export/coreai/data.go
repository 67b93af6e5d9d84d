package coreai

import (
	"context"
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// dataWindow is the number of tokens that checkData runs at a time.
const dataWindow = 256

// checkData runs the functions of the float32 twin on a text.
func (w *workspace) checkData(ctx context.Context, m *infer.Model, twin string, r *Result) error {
	var reference *infer.Model
	if w.Reference != "" {
		var err error
		if reference, err = infer.Open(ctx, w.Reference, infer.OpenOptions{Pool: w.pool}); err != nil {
			return err
		}
	}
	variants := w.variants(m)
	w.Progress.Stage(progress.Stage{Name: StageCheckData, Work: int64(len(variants) * len(w.corpus))})
	defer w.Progress.Done()
	if _, err := w.bridge.ask(ctx, w.request("open", twin, "float32")); err != nil {
		return err
	}
	for _, v := range variants {
		d, err := w.checkVariant(ctx, v, reference, w.corpus)
		if err != nil {
			return err
		}
		d.Function = w.label(v)
		r.Data = append(r.Data, *d)
	}
	_, err := w.bridge.ask(ctx, request{Do: "close"})
	return err
}

// checkVariant runs one function on a text, in windows that start with empty caches. Every token
// but the first of a window is scored.
func (w *workspace) checkVariant(ctx context.Context, v variant, reference *infer.Model, ids []int32) (*DataCheck, error) {
	d := &DataCheck{}
	var own, engine, kl, refKL, refEngine float64
	window := min(dataWindow, w.Context)
	for at := 0; at+1 < len(ids); at += window {
		part := ids[at:min(at+window, len(ids))]
		if err := w.reset(ctx, len(part)); err != nil {
			return nil, err
		}
		got, err := w.bridge.logits(ctx, request{Function: v.function, Adapter: v.adapter, IDs: part}, w.vocab)
		if err != nil {
			return nil, err
		}
		want := w.engineLogits(v.model, part)
		var ref []float32
		if reference != nil {
			ref = w.engineLogits(reference, part)
		}
		for i, next := range part[1:] {
			q, p := got[i*w.vocab:(i+1)*w.vocab], want[i*w.vocab:(i+1)*w.vocab]
			lq, lp := kernel.LogSumExp(q), kernel.LogSumExp(p)
			own += lq - float64(q[next])
			engine += lp - float64(p[next])
			kl += kernel.KL(p, q, lp, lq)
			if ref != nil {
				x := ref[i*w.vocab : (i+1)*w.vocab]
				lx := kernel.LogSumExp(x)
				refKL += kernel.KL(x, q, lx, lq)
				refEngine += kernel.KL(x, p, lx, lp)
			}
			d.Tokens++
		}
		w.Progress.Advance(int64(len(part)))
	}
	n := float64(d.Tokens)
	d.Perplexity, d.EnginePerplexity, d.KL = math.Exp(own/n), math.Exp(engine/n), kl/n
	if reference != nil {
		refKL, refEngine = refKL/n, refEngine/n
		d.ReferenceKL, d.EngineReferenceKL = &refKL, &refEngine
	}
	return d, nil
}
