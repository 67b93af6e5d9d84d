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
	head   *infer.Runner // for logits, which both models compute alike from hidden states unless the head is changed
	final  [][]float32   // hidden states of the original model after the final norm, by batch, [tokens, hidden]

	changed *infer.Model // the model with one module replaced
	fork    *infer.Walk  // through changed, from the layer of the module on
}

func (k *klEstimator) units() int { return len(k.modules) }

func (k *klEstimator) unitName() string { return "modules" }

// prepare runs the original model.
func (k *klEstimator) prepare(ctx context.Context) (err error) {
	k.progress.Stage(progress.Stage{Name: StageReference, Work: int64(k.text.Tokens()) * k.model.ForwardWork()})
	defer k.progress.Done()
	walk, err := k.newWalk(ctx, k.models)
	if err != nil {
		return err
	}
	walk.OnLayer(k.layerDone)
	if err := k.advance(ctx, walk, k.cfg.Layers); err != nil {
		return err
	}
	if err := k.stream.LoadHead(ctx); err != nil {
		return err
	}
	k.head = k.model.NewRunner(k.models)
	for b := range walk.Batches() {
		final, err := k.states.Floats(walk.Tokens(b) * k.cfg.HiddenSize)
		if err != nil {
			return err
		}
		copy(final, walk.Final(b))
		k.states.Idle(final)
		k.final = append(k.final, final)
	}
	k.changed = &infer.Model{Config: k.model.Config, Blocks: make([]infer.Block, k.cfg.Layers), FinalNorm: k.model.FinalNorm}
	if k.fork, err = walk.Fork(k.changed); err != nil {
		return err
	}
	k.fork.OnLayer(k.layerDone)
	k.walk, err = k.newWalk(ctx, k.models)
	return err
}

func (k *klEstimator) layerDone(tokens int) {
	k.progress.Advance(int64(tokens) * k.model.LayerWork())
}

// work counts, for each width, the palettes and the layers and logits that run again.
func (k *klEstimator) work(unit int) int64 {
	m := &k.modules[unit]
	layers := int64(k.model.Config.Layers - max(m.spec.Layer, 0))
	if m.end && !looksUp(m) {
		layers = 0
	}
	return k.quantizeWork(m) + int64(len(k.options(m)))*int64(k.text.Tokens())*(layers*k.model.LayerWork()+2*k.model.HeadWork())
}

func (k *klEstimator) run(ctx context.Context, unit int) (out []Contribution, err error) {
	m := &k.modules[unit]
	layer := max(m.spec.Layer, 0) // whose beginning both models share
	if layer < k.walk.Layer() {
		if k.walk, err = k.newWalk(ctx, k.models); err != nil {
			return nil, err
		}
	}
	if err := k.advance(ctx, k.walk, layer); err != nil {
		return nil, err
	}
	for o := range k.options(m) {
		p, _, err := k.quantize(m, o)
		if err != nil {
			return nil, err
		}
		k.progress.Advance(k.widthWork(m, o))
		run := k.runModule
		if m.end {
			run = k.runEnd
		}
		sum, err := run(ctx, m, p)
		if err != nil {
			return nil, err
		}
		out = append(out, Contribution{unit, o, sum / float64(k.text.Tokens())})
	}
	return out, nil
}

// runModule measures the divergence with a projection replaced: p.
func (k *klEstimator) runModule(ctx context.Context, m *module, p *compute.Matrix) (sum float64, err error) {
	k.fork.Join(k.walk)
	if err := k.forward(ctx, m, p); err != nil {
		return 0, err
	}
	for b := range k.fork.Batches() {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		sum += k.divergence(b, k.fork.Final(b), k.head)
	}
	return sum, nil
}

// forward runs the changed model from where it is to the end, with a projection replaced.
func (k *klEstimator) forward(ctx context.Context, m *module, p *compute.Matrix) error {
	for k.fork.Layer() < k.cfg.Layers {
		layer := k.fork.Layer()
		if err := k.stream.LoadLayer(ctx, layer); err != nil {
			return err
		}
		k.changed.Blocks[layer] = k.model.Blocks[layer]
		if layer == m.spec.Layer {
			k.changed.SetMatrix(m.spec, p)
		}
		k.fork.Advance()
		k.changed.Blocks[layer] = infer.Block{}
		k.stream.DropLayer(layer)
	}
	return nil
}

// divergence returns the divergence of the changed model, summed over the tokens of a batch, in
// nats: hidden are its states after the final norm, and head has its head.
func (k *klEstimator) divergence(batch int, hidden []float32, head *infer.Runner) float64 {
	vocab, d, n := k.cfg.VocabSize, k.cfg.HiddenSize, k.fork.Tokens(batch)
	rows := min(infer.LogitRows(vocab), n)
	p, q := make([]float32, rows*vocab), make([]float32, rows*vocab)
	kls := make([]float64, rows)
	sum := 0.0
	for at := 0; at < n; at += rows {
		m := min(rows, n-at)
		k.head.Logits(p, k.final[batch][at*d:(at+m)*d], m)
		head.Logits(q, hidden[at*d:(at+m)*d], m)
		k.progress.Advance(2 * int64(m) * k.model.HeadWork())
		k.pool.Run(m, func(_, i int) {
			a, b := p[i*vocab:(i+1)*vocab], q[i*vocab:(i+1)*vocab]
			kls[i] = max(kernel.KL(a, b, kernel.LogSumExp(a), kernel.LogSumExp(b)), 0)
		})
		for _, v := range kls[:m] {
			sum += v
		}
	}
	k.states.Idle(k.final[batch])
	return sum
}
