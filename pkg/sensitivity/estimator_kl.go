package sensitivity

import (
	"context"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// klEstimator computes [KL]. A unit of work is a module. The hidden states of all batches
// are kept at the layer of the module, so that only the layers from there on run again.
//
// Both models run in the same arithmetic, but that does not cancel its rounding: a small
// change of the weights changes which values are rounded up, in every layer after it. The
// divergence is never negative, so the rounding adds to it.
type klEstimator struct {
	*scorer
	models *compute.Pool // the workers, in the arithmetic of the measurement
	walk   *infer.Walk
	runner *infer.Runner // of the original model
	final  [][]float32   // its hidden states after the final norm, by batch, [tokens, hidden]
}

func (k *klEstimator) units() int { return len(k.modules) }

func (k *klEstimator) unitName() string { return "modules" }

// prepare runs the original model.
func (k *klEstimator) prepare(context.Context) error {
	k.progress.Stage(progress.Stage{Name: StageReference, Work: int64(k.text.Tokens()) * k.model.ForwardWork()})
	defer k.progress.Done()
	k.walk = k.model.NewWalk(k.models, k.text.Sequences)
	k.runner = k.model.NewRunner(k.models)
	k.runner.OnLayer(k.layerDone)
	for b := range k.walk.Batches() {
		k.final = append(k.final, append([]float32(nil), k.walk.Finish(k.runner, b)...))
	}
	return nil
}

func (k *klEstimator) layerDone(tokens int) {
	k.progress.Advance(int64(tokens) * k.model.LayerWork())
}

// work counts, for each width, the palettes and the layers and logits that run again.
func (k *klEstimator) work(unit int) int64 {
	m := &k.modules[unit]
	layers := int64(k.model.Config.Layers - m.spec.Layer)
	return k.quantizeWork(m) + int64(len(k.widths))*int64(k.text.Tokens())*(layers*k.model.LayerWork()+2*k.model.HeadWork())
}

func (k *klEstimator) run(ctx context.Context, unit int) ([]Contribution, error) {
	m := &k.modules[unit]
	if m.spec.Layer < k.walk.Layer() {
		k.walk = k.model.NewWalk(k.models, k.text.Sequences)
	}
	for k.walk.Layer() < m.spec.Layer {
		k.walk.Advance()
	}
	changed := *k.model
	changed.Blocks = append([]infer.Block(nil), k.model.Blocks...)
	runner := changed.NewRunner(k.models)
	runner.OnLayer(k.layerDone)
	var out []Contribution
	for o := range k.widths {
		p, _, err := k.quantize(m, o)
		if err != nil {
			return nil, err
		}
		changed.SetMatrix(m.spec, p)
		k.progress.Advance(k.widthWork(m, o))
		sum := 0.0
		for b := range k.walk.Batches() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			sum += k.divergence(runner, b)
		}
		out = append(out, Contribution{unit, o, sum / float64(k.text.Tokens())})
	}
	return out, nil
}

// divergence returns the divergence of the runner's model, summed over the tokens of a
// batch, in nats.
func (k *klEstimator) divergence(runner *infer.Runner, batch int) float64 {
	c := k.model.Config
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
		k.progress.Advance(2 * int64(m) * k.model.HeadWork())
		k.pool.Run(m, func(_, i int) {
			a, b := p[i*vocab:(i+1)*vocab], q[i*vocab:(i+1)*vocab]
			kls[i] = max(kernel.KL(a, b, kernel.LogSumExp(a), kernel.LogSumExp(b)), 0)
		})
		for _, v := range kls[:m] {
			sum += v
		}
	}
	return sum
}
