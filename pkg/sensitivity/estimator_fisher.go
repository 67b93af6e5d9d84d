package sensitivity

import (
	"context"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// fisherEstimator computes [Fisher]. The text runs forward through all layers; the hidden states at
// the beginning of each are kept. Then it runs backward. A unit of work is a layer, the last one
// first: its weights are read again, its modules are quantized, and every batch runs through it
// forward, from the hidden states that were kept, and backward. Embedding and head, if they are scored,
// are one more unit, the last.
type fisherEstimator struct {
	*scorer
	walk     *infer.Walk
	inputs   [][][]float32 // hidden states at the beginning of a layer, [layer][batch], [tokens, hidden]
	grads    [][][]float32 // gradients at the end of layer next, [sample][batch], [tokens, hidden]
	next     int           // the layer that runs backward next
	working  []float32     // gradients of a batch
	original []float32     // output of a module, [tokens, out]
	product  []float32     // output of its quantized form, [tokens, out]
	terms    []float64     // [tokens]

	// unscored leaves all sums 0.
	unscored bool
	// observe, which may be nil, sees every projection of every batch once for each draw.
	observe func(leaf, sample int, p infer.Projected)
	// headInput, which may be nil, sees the input of the head, [tokens, hidden], of every batch.
	headInput func(leaf int, x []float32, tokens int)
}

func newFisherEstimator(s *scorer) *fisherEstimator { return &fisherEstimator{scorer: s} }

func (f *fisherEstimator) units() int {
	if len(f.ends) > 0 {
		return f.cfg.Layers + 1
	}
	return f.cfg.Layers
}

func (f *fisherEstimator) unitName() string {
	if len(f.ends) > 0 {
		return "parts" // the layers, and embedding and head together
	}
	return "layers"
}

// layer returns the layer of a unit, or endLayer.
func (f *fisherEstimator) layer(unit int) int { return f.cfg.Layers - 1 - unit }

// layerModules returns the indices of the modules of a layer.
func (f *fisherEstimator) layerModules(layer int) (list []int) {
	for i := range f.modules {
		if f.modules[i].spec.Layer == layer {
			list = append(list, i)
		}
	}
	return list
}

func (f *fisherEstimator) work(unit int) (n int64) {
	modules := f.layerModules(f.layer(unit))
	passes := int64(0) // for one token
	if f.unscored {
		for _, i := range modules {
			passes += f.moduleWork(&f.modules[i], 0)
		}
		return f.tokens() * int64(f.samples) * passes
	}
	for _, i := range modules {
		n += f.quantizeWork(&f.modules[i])
	}
	if f.layer(unit) == endLayer {
		for _, i := range modules {
			for _, options := range f.optionGroups([]int{i}) {
				n += f.tokens() * f.endWork(&f.modules[i], len(options))
			}
		}
		return n
	}
	for _, options := range f.optionGroups(modules) {
		for _, i := range modules {
			passes += f.moduleWork(&f.modules[i], len(options))
		}
	}
	return n + f.tokens()*int64(f.samples)*passes
}

// moduleWork returns the work of a module for one token: a product forward, one backward, one for
// each option and, where the model's are not in float32, one more.
func (f *fisherEstimator) moduleWork(m *module, options int) int64 {
	times := 2 + options
	if f.models.Arithmetic() != f.pool.Arithmetic() {
		times++
	}
	return int64(times) * m.weights()
}

// optionGroups divides the options of modules, which all have the same, into groups whose quantized
// forms of a layer fit in memory together.
func (f *fisherEstimator) optionGroups(modules []int) (groups [][]int) {
	used := int64(0)
	for o := range f.options(&f.modules[modules[0]]) {
		need := int64(0)
		for _, i := range modules {
			need += f.packedBytes(&f.modules[i], o)
		}
		if len(groups) == 0 || used+need > f.budget {
			groups, used = append(groups, nil), 0
		}
		used += need
		groups[len(groups)-1] = append(groups[len(groups)-1], o)
	}
	return groups
}

// prepare runs the text forward and computes the gradients at the output of the last layer.
func (f *fisherEstimator) prepare(ctx context.Context) (err error) {
	tokens := f.tokens()
	f.progress.Stage(progress.Stage{Name: StageReference, Work: tokens * (f.model.ForwardWork() + 2*int64(f.samples)*f.model.HeadWork())})
	defer f.progress.Done()
	if f.walk, err = f.newWalk(ctx, f.models); err != nil {
		return err
	}
	f.walk.OnLayer(func(tokens int) { f.progress.Advance(int64(tokens) * f.model.LayerWork()) })
	if err := f.allocate(); err != nil { // before hours of work
		return err
	}
	for layer := range f.cfg.Layers {
		if err := f.advance(ctx, f.walk, layer); err != nil {
			return err
		}
		for b := range f.walk.Batches() {
			copy(f.inputs[layer][b], f.walk.Hidden(b))
			f.states.Idle(f.inputs[layer][b])
		}
	}
	if err := f.advance(ctx, f.walk, f.cfg.Layers); err != nil {
		return err
	}
	f.next = f.cfg.Layers - 1
	return f.sample(ctx)
}

// allocate makes room for the hidden states and the gradients.
func (f *fisherEstimator) allocate() error {
	make := func(n int) (out [][][]float32, err error) {
		for range n {
			var list [][]float32
			for b := range f.walk.Batches() {
				v, err := f.states.Floats(f.walk.Tokens(b) * f.cfg.HiddenSize)
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			out = append(out, list)
		}
		return out, nil
	}
	var err error
	if f.grads, err = make(f.samples); err == nil {
		f.inputs, err = make(f.cfg.Layers)
	}
	return err
}

// sample draws a label for every token and computes the gradients of their nats with respect to the
// output of the last layer.
func (f *fisherEstimator) sample(ctx context.Context) error {
	if err := f.stream.LoadHead(ctx); err != nil {
		return err
	}
	defer f.stream.DropHead()
	head := f.model.NewRunner(f.models)
	for s := range f.samples {
		for b, r := range f.runs {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, grad := f.walk.Tokens(b), f.grads[s][b]
			x := slices.Clone(f.walk.Final(b))
			if s == 0 && f.headInput != nil {
				f.headInput(r.leaf, x, n)
			}
			head.SampledGradient(grad, x, n, f.random(r, s))
			f.walk.FinalBack(b, grad)
			f.states.Idle(grad)
			f.progress.Advance(2 * int64(n) * f.model.HeadWork())
		}
	}
	return nil
}

func (f *fisherEstimator) run(ctx context.Context, unit int) (out []Contribution, err error) {
	layer := f.layer(unit)
	sums, err := f.sumsOf(ctx, layer)
	if err != nil {
		return nil, err
	}
	scale := 0.5 / float64(f.samples) / float64(f.text.Tokens())
	for _, i := range f.layerModules(layer) {
		for o := range f.options(&f.modules[i]) {
			cost := 0.0
			for _, sum := range sums[i] {
				cost += sum[o] * scale
			}
			out = append(out, Contribution{i, o, cost})
		}
	}
	return out, nil
}

// sumsOf is layerSums of a layer, to which the text runs backward first: through layers that an
// earlier run has scored.
func (f *fisherEstimator) sumsOf(ctx context.Context, layer int) (map[int][][]float64, error) {
	for f.next > layer {
		if err := f.layerBack(ctx, false, nil); err != nil {
			return nil, err
		}
	}
	if layer == endLayer {
		return f.endSums(ctx)
	}
	return f.layerSums(ctx)
}

// layerSums runs the text backward through layer next and returns Σ (g·(Ŵ·x - W·x))² over the tokens
// of each leaf that runs and over the draws, by module: [leaf][option].
func (f *fisherEstimator) layerSums(ctx context.Context) (map[int][][]float64, error) {
	modules := f.layerModules(f.next)
	first := f.runs[0].leaf
	sums := map[int][][]float64{}
	for _, i := range modules {
		for range f.runs[len(f.runs)-1].leaf - first + 1 {
			sums[i] = append(sums[i], make([]float64, len(f.widths)))
		}
	}
	groups := f.optionGroups(modules)
	if f.unscored {
		groups = [][]int{nil}
	}
	for k, options := range groups {
		quantized := map[int][]*compute.Matrix{}
		for _, i := range modules {
			var err error
			if quantized[i], err = f.quantizeAll(ctx, &f.modules[i], options); err != nil {
				return nil, err
			}
		}
		err := f.layerBack(ctx, k < len(groups)-1, func(leaf, sample int, p infer.Projected) {
			if k == 0 && f.observe != nil {
				f.observe(leaf, sample, p)
			}
			i := f.index[layerKind{p.Layer, p.Kind}]
			f.accumulate(sums[i][leaf-first], options, quantized[i], p)
			f.progress.Advance(int64(p.N) * f.moduleWork(&f.modules[i], len(options)))
		})
		if err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// layerBack runs the gradients of all batches back through layer next and moves to the layer before
// it; with stay, it does neither, but calls visit all the same.
func (f *fisherEstimator) layerBack(ctx context.Context, stay bool, visit func(leaf, sample int, p infer.Projected)) error {
	layer := f.next
	if err := f.stream.LoadLayer(ctx, layer); err != nil {
		return err
	}
	defer f.stream.DropLayer(layer)
	for b, r := range f.runs {
		for s := range f.samples {
			if err := ctx.Err(); err != nil {
				return err
			}
			grad := f.grads[s][b]
			if stay {
				f.working = append(f.working[:0], grad...)
				grad = f.working
			}
			f.walk.LayerBack(layer, b, f.inputs[layer][b], grad, func(p infer.Projected) {
				if visit != nil {
					visit(r.leaf, s, p)
				}
			})
			f.states.Idle(f.inputs[layer][b])
			f.states.Idle(f.grads[s][b])
		}
	}
	if !stay {
		f.next--
	}
	return nil
}

// accumulate adds Σ (g·(Ŵ·x - W·x))² over the tokens to the sums of one module, by option.
//
// Both products are in float32, whatever the arithmetic of the model: W·x as the forward
// pass rounded it would add its rounding to the difference.
func (f *fisherEstimator) accumulate(sums []float64, options []int, quantized []*compute.Matrix, p infer.Projected) {
	out := p.Linear.Weight.Rows()
	y := p.Y
	if f.models.Arithmetic() != f.pool.Arithmetic() {
		f.original = slices.Grow(f.original[:0], p.N*out)[:p.N*out]
		y = f.original
		p.Linear.Apply(f.pool, y, p.X, p.N)
	}
	f.product = slices.Grow(f.product[:0], p.N*out)[:p.N*out]
	f.terms = slices.Grow(f.terms[:0], p.N)[:p.N]
	product, terms := f.product, f.terms
	for k, o := range options {
		l := infer.Linear{Weight: quantized[k], Bias: p.Linear.Bias}
		l.Apply(f.pool, product, p.X, p.N)
		f.pool.Run((p.N+15)/16, func(_, chunk int) {
			for i := chunk * 16; i < min(chunk*16+16, p.N); i++ {
				g := p.G[i*out : (i+1)*out]
				d := kernel.Dot(g, product[i*out:(i+1)*out]) - kernel.Dot(g, y[i*out:(i+1)*out])
				terms[i] = d * d
			}
		})
		for _, t := range terms {
			sums[o] += t
		}
	}
}
