package sensitivity

import (
	"context"

	"afmq/internal/kernel"
	"afmq/pkg/infer"
)

// klEstimator measures, module after module; a module is one unit of work. Every batch of
// the text waits at the layer of the module, so only the layers from there on run again.
type klEstimator struct {
	w      *scorer
	walk   *infer.Walk
	runner *infer.Runner // of the model itself
	final  [][]float32   // the model's hidden states after the final norm, by batch
}

func (k *klEstimator) units() int { return len(k.w.modules) }

func (k *klEstimator) start() {
	if k.walk != nil {
		return
	}
	w := k.w
	k.walk = w.model.NewWalk(w.models, w.text.Sequences)
	k.runner = w.model.NewRunner(w.models)
	for b := range k.walk.Batches() {
		k.final = append(k.final, append([]float32(nil), k.walk.Finish(k.runner, b)...))
	}
}

func (k *klEstimator) run(ctx context.Context, unit int) ([]contribution, error) {
	k.start()
	w, m := k.w, &k.w.modules[unit]
	if m.spec.Layer < k.walk.Layer() {
		k.walk = w.model.NewWalk(w.models, w.text.Sequences)
	}
	for k.walk.Layer() < m.spec.Layer {
		k.walk.Advance()
	}
	changed := *w.model
	changed.Blocks = append([]infer.Block(nil), w.model.Blocks...)
	runner := changed.NewRunner(w.models)
	var out []contribution
	for o, bits := range w.bits {
		p, _, err := w.palettize(m, bits)
		if err != nil {
			return nil, err
		}
		changed.SetMatrix(m.spec, pack(p))
		sum := 0.0
		for b := range k.walk.Batches() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			sum += k.divergence(runner, b)
		}
		out = append(out, contribution{unit, o, sum / float64(w.text.Tokens())})
	}
	return out, nil
}

// divergence returns the summed divergence of a batch.
func (k *klEstimator) divergence(runner *infer.Runner, batch int) float64 {
	c := k.w.model.Config
	vocab, d, n := c.VocabSize, c.HiddenSize, k.walk.Tokens(batch)
	hidden := k.walk.Finish(runner, batch)
	rows := min(infer.LogitRows(vocab), n)
	p, q := make([]float32, rows*vocab), make([]float32, rows*vocab)
	kls := make([]float64, rows)
	sum := 0.0
	for at := 0; at < n; at += rows {
		m := min(rows, n-at)
		k.runner.Logits(p, k.final[batch][at*d:(at+m)*d], m)
		runner.Logits(q, hidden[at*d:(at+m)*d], m)
		k.w.pool.Run(m, func(_, i int) {
			a, b := p[i*vocab:(i+1)*vocab], q[i*vocab:(i+1)*vocab]
			kls[i] = max(kernel.KL(a, b, kernel.LogSumExp(a), kernel.LogSumExp(b)), 0)
		})
		for _, v := range kls[:m] {
			sum += v
		}
	}
	return sum
}
