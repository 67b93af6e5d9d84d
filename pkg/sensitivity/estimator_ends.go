package sensitivity

import (
	"context"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/model"
)

// isHead reports whether a matrix multiplies the final hidden states: a head of its own, or an
// embedding that is also the head.
func (s *scorer) isHead(m *module) bool {
	return m.spec.Role == model.Head || m.spec.Role == model.Embedding && s.cfg.TieEmbeddings
}

// looksUp reports whether the rows of a matrix are the inputs of the first layer.
func looksUp(m *module) bool { return m.spec.Role == model.Embedding }

// loadEnd loads the embedding or the head, and the final norm, and returns the matrix. The model keeps
// a head until drop.
func (s *scorer) loadEnd(ctx context.Context, m *module) (w *compute.Matrix, drop func(), err error) {
	if s.isHead(m) {
		if err := s.stream.LoadHead(ctx); err != nil {
			return nil, nil, err
		}
		return s.model.Head, s.stream.DropHead, nil
	}
	if err := s.stream.LoadEmbedding(ctx); err != nil {
		return nil, nil, err
	}
	return s.model.Embedding, s.stream.DropEmbedding, nil
}

// tokenIDs calls f with the index and the id of every token of a run.
func (s *scorer) tokenIDs(r run, f func(i int, id int32)) {
	i := 0
	for _, seq := range s.text.Sequences[r.first : r.first+r.count] {
		for _, id := range seq {
			f(i, id)
			i++
		}
	}
}

// endSums is layerSums of embedding and head, once the text has run backward through all layers. What
// it returns is, for the head, the variance over all labels of their change, Σ_v p(v)·δ(v)² - (Σ_v p(v)·δ(v))²
// with δ = ΔW·x, which is what (g·ΔW·x)² is on average over labels that are drawn; and for the
// embedding (g·Δw)², with the change Δw of the token's row and the gradient g with respect to it. Of an
// embedding that is also the head both are added.
func (f *fisherEstimator) endSums(ctx context.Context) (map[int][][]float64, error) {
	first := f.runs[0].leaf
	sums := map[int][][]float64{}
	for _, i := range f.layerModules(endLayer) {
		m := &f.modules[i]
		for range f.runs[len(f.runs)-1].leaf - first + 1 {
			sums[i] = append(sums[i], make([]float64, len(f.options(m))))
		}
		original, drop, err := f.loadEnd(ctx, m)
		if err != nil {
			return nil, err
		}
		err = f.addEnd(ctx, m, original, sums[i], first)
		drop()
		if err != nil {
			return nil, err
		}
	}
	return sums, nil
}

func (f *fisherEstimator) addEnd(ctx context.Context, m *module, original *compute.Matrix, sums [][]float64, first int) error {
	for _, options := range f.optionGroups([]int{f.moduleIndex(m)}) {
		quantized, err := f.quantizeAll(ctx, m, options)
		if err != nil {
			return err
		}
		for b, r := range f.runs {
			if err := ctx.Err(); err != nil {
				return err
			}
			sum := make([]float64, len(options))
			if f.isHead(m) {
				f.addHead(sum, b, original, quantized)
				for k := range sum {
					sum[k] *= float64(f.samples) // of each draw
				}
			}
			if looksUp(m) {
				for s := range f.samples {
					f.addRows(sum, r, f.grads[s][b], original, quantized)
					f.states.Idle(f.grads[s][b])
				}
			}
			for k, o := range options {
				sums[r.leaf-first][o] += sum[k]
			}
			f.progress.Advance(int64(f.walk.Tokens(b)) * f.endWork(m, len(options)))
		}
	}
	return nil
}

// endWork returns the work of embedding or head for one token under some options.
func (s *scorer) endWork(m *module, options int) int64 {
	n := int64(0)
	if s.isHead(m) {
		n = int64(1+options) * m.weights()
	}
	if looksUp(m) {
		n += int64(1+options) * int64(m.spec.Shape[1])
	}
	return n
}

// addHead adds, for every quantized form of the head, the variance of the change of the logits over
// the labels, summed over the tokens of a batch.
func (f *fisherEstimator) addHead(sums []float64, batch int, original *compute.Matrix, quantized []*compute.Matrix) {
	vocab, d, n := f.cfg.VocabSize, f.cfg.HiddenSize, f.walk.Tokens(batch)
	x := f.walk.Final(batch)
	rows := min(infer.LogitRows(vocab), n)
	y, p, q := make([]float32, rows*vocab), make([]float32, rows*vocab), make([]float32, rows*vocab)
	terms := make([]float64, rows)
	for at := 0; at < n; at += rows {
		k := min(rows, n-at)
		f.pool.MulT(y, x[at*d:(at+k)*d], k, original)
		infer.FinishLogits(f.pool, f.cfg, y[:k*vocab])
		copy(p, y)
		f.pool.Run(k, func(_, i int) { kernel.Softmax(p[i*vocab:(i+1)*vocab], 1) })
		for o, w := range quantized {
			f.pool.MulT(q, x[at*d:(at+k)*d], k, w)
			infer.FinishLogits(f.pool, f.cfg, q[:k*vocab])
			f.pool.Run(k, func(_, i int) {
				terms[i] = changeVariance(p[i*vocab:(i+1)*vocab], y[i*vocab:(i+1)*vocab], q[i*vocab:(i+1)*vocab])
			})
			for _, t := range terms[:k] {
				sums[o] += t
			}
		}
	}
}

// changeVariance returns the variance of q - y under the distribution p.
func changeVariance(p, y, q []float32) (variance float64) {
	mean := 0.0
	for v, w := range p {
		mean += float64(w) * float64(q[v]-y[v])
	}
	for v, w := range p {
		d := float64(q[v]-y[v]) - mean
		variance += float64(float64(w)*d) * d
	}
	return variance
}

// addRows adds, for every quantized form of the embedding, Σ (g·Δw)² over the tokens of a run: g of
// grads, [tokens, hidden], and Δw the change of the token's row.
func (f *fisherEstimator) addRows(sums []float64, r run, grads []float32, original *compute.Matrix, quantized []*compute.Matrix) {
	d := f.cfg.HiddenSize
	var ids []int32
	f.tokenIDs(r, func(_ int, id int32) { ids = append(ids, id) })
	terms := make([]float64, len(ids))
	for o, w := range quantized {
		f.pool.Run((len(ids)+15)/16, func(_, chunk int) {
			was, is := make([]float32, d), make([]float32, d)
			for i := chunk * 16; i < min(chunk*16+16, len(ids)); i++ {
				infer.EmbedRow(f.cfg, was, original, int(ids[i]))
				infer.EmbedRow(f.cfg, is, w, int(ids[i]))
				kernel.AddScaled(is, was, -1)
				g := kernel.Dot(grads[i*d:(i+1)*d], is)
				terms[i] = g * g
			}
		})
		for _, t := range terms {
			sums[o] += t
		}
	}
}

// moduleIndex returns the index of a module of the scorer.
func (s *scorer) moduleIndex(m *module) int {
	return slices.IndexFunc(s.modules, func(x module) bool { return x.spec.Name == m.spec.Name })
}

// runEnd measures the divergence with another embedding or head: p.
func (k *klEstimator) runEnd(ctx context.Context, m *module, p *compute.Matrix) (sum float64, err error) {
	head, hidden := k.head, func(batch int) []float32 { return k.final[batch] }
	if looksUp(m) {
		k.fork.Join(k.walk) // before the first layer
		d := k.cfg.HiddenSize
		for b, r := range k.runs {
			x := k.fork.Hidden(b)
			k.tokenIDs(r, func(i int, id int32) { infer.EmbedRow(k.cfg, x[i*d:(i+1)*d], p, int(id)) })
		}
		if err := k.forward(ctx, m, nil); err != nil {
			return 0, err
		}
		hidden = k.fork.Final
	}
	if k.isHead(m) {
		changed := *k.changed
		changed.Head = p
		head = changed.NewRunner(k.models)
	}
	for b := range k.fork.Batches() {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		sum += k.divergence(b, hidden(b), head)
	}
	return sum, nil
}

// runEnd computes the squared error of what the model gets from the embedding or the head, under every
// option: of the tokens' rows, and of the logits.
func (e *hessianEstimator) runEnd(ctx context.Context, m *module) (sums []float64, err error) {
	if e.isHead(m) {
		if e.walk == nil {
			if e.walk, err = e.newWalk(ctx, e.models); err != nil {
				return nil, err
			}
		}
		if err := e.advance(ctx, e.walk, e.cfg.Layers); err != nil {
			return nil, err
		}
	}
	original, drop, err := e.loadEnd(ctx, m)
	if err != nil {
		return nil, err
	}
	defer drop()
	sums = make([]float64, len(e.options(m)))
	for o := range sums {
		p, _, err := e.quantize(m, o)
		if err != nil {
			return nil, err
		}
		e.progress.Advance(e.widthWork(m, o))
		for b, r := range e.runs {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if e.isHead(m) {
				sums[o] += e.logitError(b, original, p)
			}
			if looksUp(m) {
				was, is := make([]float32, e.cfg.HiddenSize), make([]float32, e.cfg.HiddenSize)
				e.tokenIDs(r, func(_ int, id int32) {
					infer.EmbedRow(e.cfg, was, original, int(id))
					infer.EmbedRow(e.cfg, is, p, int(id))
					kernel.AddScaled(is, was, -1)
					sums[o] += kernel.Dot(is, is)
				})
			}
		}
	}
	e.progress.Advance(int64(e.text.Tokens()) * e.tokenWork(m))
	return sums, nil
}

// logitError returns the squared error of the logits with another head, summed over a batch.
func (e *hessianEstimator) logitError(batch int, original, p *compute.Matrix) (sum float64) {
	vocab, d, n := e.cfg.VocabSize, e.cfg.HiddenSize, e.walk.Tokens(batch)
	x := e.walk.Final(batch)
	rows := min(infer.LogitRows(vocab), n)
	y, q := make([]float32, rows*vocab), make([]float32, rows*vocab)
	for at := 0; at < n; at += rows {
		k := min(rows, n-at)
		e.pool.MulT(y, x[at*d:(at+k)*d], k, original)
		e.pool.MulT(q, x[at*d:(at+k)*d], k, p)
		infer.FinishLogits(e.pool, e.cfg, y[:k*vocab])
		infer.FinishLogits(e.pool, e.cfg, q[:k*vocab])
		kernel.AddScaled(q[:k*vocab], y[:k*vocab], -1)
		sum += kernel.Dot(q[:k*vocab], q[:k*vocab])
	}
	return sum
}
