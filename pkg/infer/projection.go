package infer

// projection is the index of a projection of a layer.
type projection int

const (
	projQ projection = iota
	projK
	projV
	projO
	projGate
	projUp
	projDown
	projQKV
	projGateUp
	projections // how many there are
)

// projection returns the projection with this index.
func (b *Block) projection(p projection) *Linear {
	return [projections]*Linear{&b.Q, &b.K, &b.V, &b.O, &b.Gate, &b.Up, &b.Down, &b.QKV, &b.GateUp}[p]
}

// project applies a projection to the n rows of x. If one adapter, or none, applies to all rows,
// it leaves the adapter's intermediate result in r.low.
func (r *Runner) project(layer int, p projection, y, x []float32, n int) {
	l := r.model.Blocks[layer].projection(p)
	if len(r.variants) == 0 {
		l.apply(r.pool, y, x, n, &r.low)
		return
	}
	r.pool.MulT(y, x, n, l.Weight)
	r.addVariants(layer, p, y, x)
	l.addBias(y, n)
}

// variant is a run of adjacent rows of the batch that have the same model.
type variant struct {
	model    *Model
	first, n int       // rows
	low      []float32 // Scale·X·Aᵀ, [n, rank]
}

// alone is the number of rows from which on the products of a variant's adapter are divided among
// the workers. Smaller variants are computed side by side, one by each worker.
const alone = 32

// divide fills r.variants if the batch has segments of more than one model. Otherwise it is empty,
// and r.model is the model of all.
func (r *Runner) divide(batch []Segment) {
	r.variants = r.variants[:0]
	first := 0
	mixed := false
	for _, seg := range batch {
		m := seg.Model
		if m == nil {
			m = r.model
		}
		if m.Config != r.model.Config {
			panic("infer: the model of a segment has another config than that of the runner")
		}
		mixed = mixed || m != r.model
		if k := len(r.variants); k > 0 && r.variants[k-1].model == m {
			r.variants[k-1].n += len(seg.Tokens)
		} else {
			r.variants = append(r.variants, variant{model: m, first: first, n: len(seg.Tokens), low: r.spareLow(k)})
		}
		first += len(seg.Tokens)
	}
	if !mixed {
		r.variants = r.variants[:0]
	}
}

// spareLow returns the buffer that element k of r.variants had in an earlier batch.
func (r *Runner) spareLow(k int) []float32 {
	if k < cap(r.variants) {
		return r.variants[:k+1][k].low
	}
	return nil
}

// addVariants adds to y the adapter's term of each variant.
func (r *Runner) addVariants(layer int, p projection, y, x []float32) {
	r.adapt = adaptation{layer: layer, p: p, y: y, x: x}
	small := 0
	for i := range r.variants {
		if r.variants[i].n >= alone {
			r.addVariant(i)
		} else {
			small++
		}
	}
	if small > 0 {
		r.pool.Run(len(r.variants), r.variantLoop)
	}
	r.adapt = adaptation{}
}

// adaptation is the arguments of addVariant that are the same for all variants of a product.
type adaptation struct {
	layer int
	p     projection
	y, x  []float32
}

// addVariant adds the adapter's term of one variant. Within a Run of the pool, its products run on
// the worker's goroutine alone; their bits are the same.
func (r *Runner) addVariant(i int) {
	v, a := &r.variants[i], &r.adapt
	l := v.model.Blocks[a.layer].projection(a.p)
	if l.Adapter == nil {
		return
	}
	in, out := l.Weight.Cols(), l.Weight.Rows()
	l.addAdapter(r.pool, a.y[v.first*out:(v.first+v.n)*out], a.x[v.first*in:(v.first+v.n)*in], v.n, &v.low)
}
