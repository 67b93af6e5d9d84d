package recovery

import (
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// stored are the numbers of an artifact in training. The optimizer's values are the numbers over their
// units, so that a learning rate is a relative change.
type stored struct {
	trained
	pool    *compute.Pool
	tensors []*storedTensor // that are trained, in canonical order
	base    *infer.Model    // for the root mean squares of the norms' inputs

	at     map[place]*storedTensor // projections, biases excepted
	biases map[place]*storedTensor
	norms  map[place]*storedTensor
	embed  *storedTensor // nil if it is not trained
	output *storedTensor // of the head, which may be embed; nil if it is not trained

	buffer []float32 // gradient by the weights of one matrix
}

// storedTensor is a tensor in training.
type storedTensor struct {
	artifact.StoredTensor
	grid.Trainable
	grid           grid.Grid // nil for int8 rows and vectors
	dense          []float32 // of embedding and head: the gradient by the weights, of a step
	weights, grads grid.Values
	units          []float32 // of all its values
	first, end     int       // its values among those of the optimizer

	matrix *compute.Matrix // as last packed
	vector []float32
}

// storedEpsilon is far below the gradients by single weights, of which the mean loss of a step has
// some 1e-6 in a model of 11 M parameters and less in a larger one.
const storedEpsilon = 1e-12

// newStored reads the numbers of an artifact that are to be trained. Matrices that are stored in the
// checkpoint's own type are not.
func newStored(pool *compute.Pool, base *infer.Model, a *artifact.Reader, what []Numbers) (*stored, error) {
	s := &stored{trained: trained{name: "tune", epsilon: storedEpsilon}, pool: pool, base: base,
		at: map[place]*storedTensor{}, biases: map[place]*storedTensor{}, norms: map[place]*storedTensor{}}
	var lengths [][3]int
	total, widest := 0, 0
	for i := range a.Layout {
		t := &storedTensor{StoredTensor: a.Layout[i]}
		if err := t.open(a); err != nil {
			return nil, err
		}
		if t.Trainable == nil {
			continue
		}
		n := t.trains(what)
		t.first = total
		total += n[0] + n[1] + n[2]
		if t.end = total; t.end == t.first {
			continue
		}
		s.tensors, lengths = append(s.tensors, t), append(lengths, n)
		s.place(t, base.Config.TieEmbeddings)
		if t.Spec.Role == model.Projection {
			widest = max(widest, t.Spec.Shape[0]*t.Spec.Shape[1])
		}
	}
	if total == 0 {
		return nil, fault.Inputf(a.Dir, "stores nothing of what is to be tuned: %s", joinNumbers(what))
	}
	s.allocate(total)
	for i, t := range s.tensors {
		t.view(&s.trained, lengths[i])
	}
	s.buffer = make([]float32, widest)
	return s, nil
}

// open reads a tensor. Trainable stays nil for a matrix that is kept as it was.
func (t *storedTensor) open(a *artifact.Reader) (err error) {
	shape := t.Spec.Shape
	var data grid.Data
	for _, name := range t.Names {
		f, _ := a.File.Tensor(name)
		data = append(data, f.Bytes())
	}
	switch {
	case t.Form == artifact.Palette:
		t.grid = grid.Palette{Bits: t.Bits, GroupRows: a.Manifest.Plan.GroupRows, RowScale: len(t.Names) > 2}
	case t.Form == artifact.RowInt8:
		q, scale, err := a.Int8(&t.StoredTensor)
		if err == nil {
			t.Trainable = newInt8Rows(q, scale)
		}
		return err
	case t.Form == artifact.Plain && len(shape) == 1:
		f, _ := a.File.Tensor(t.Names[0])
		v := make([]float32, shape[0])
		trained := &trainedVector{dtype: f.DType, values: v}
		if t.Spec.Role == model.Norm {
			trained.offset = float32(a.Config.NormOffset)
		}
		t.Trainable = trained
		return f.Float32(v, 0)
	case t.Form == artifact.Plain:
		return nil
	default:
		t.grid, _, _ = a.Grid(&t.StoredTensor)
	}
	if t.Trainable, err = t.grid.Train(data, shape[0], shape[1]); err != nil {
		return fault.Inputf(a.Dir, "tensor %q: %v", t.Spec.Name, err)
	}
	return nil
}

// trains returns how many tables, scales and codes of a tensor are trained.
func (t *storedTensor) trains(what []Numbers) (n [3]int) {
	on := [3]bool{has(what, Tables), has(what, Scales), has(what, Indices)}
	switch t.Spec.Role {
	case model.Norm, model.Bias:
		on = [3]bool{false, has(what, Norms), false}
	case model.Embedding, model.Head:
		all := has(what, Embedding)
		on = [3]bool{all, all, all}
	}
	n[0], n[1], n[2] = t.Lengths()
	for i := range n {
		if !on[i] {
			n[i] = 0
		}
	}
	return n
}

// place files a tensor by what the backward pass calls it.
func (s *stored) place(t *storedTensor, tied bool) {
	at := place{t.Spec.Layer, t.Spec.Kind}
	switch t.Spec.Role {
	case model.Projection:
		s.at[at] = t
	case model.Bias:
		s.biases[at] = t
	case model.Norm:
		s.norms[at] = t
	case model.Embedding:
		s.embed = t
		if tied {
			s.output = t
		}
	case model.Head:
		s.output = t
	}
	if t.Spec.Role == model.Embedding || t.Spec.Role == model.Head {
		t.dense = make([]float32, t.Spec.Shape[0]*t.Spec.Shape[1])
	}
}

// view sets the values of a tensor, of which n tables, scales and codes are trained, in those of the
// optimizer.
func (t *storedTensor) view(o *trained, n [3]int) {
	t.units = make([]float32, t.end-t.first)
	t.weights, t.grads = parted(o.weights[t.first:t.end], n), parted(o.grads[t.first:t.end], n)
	t.Read(t.weights)
	t.Units(parted(t.units, n))
	for i, u := range t.units {
		o.weights[t.first+i] /= u
	}
}

// parted divides values into n[0] tables, n[1] scales and n[2] codes.
func parted(v []float32, n [3]int) (out grid.Values) {
	for i, part := range []*[]float32{&out.Tables, &out.Scales, &out.Codes} {
		if n[i] > 0 {
			*part, v = v[:n[i]:n[i]], v[n[i]:]
		}
	}
	return out
}

func (s *stored) visitors() visitors {
	v := visitors{Visitors: infer.Visitors{Projections: s.visitProjection}}
	if len(s.norms) > 0 {
		v.Norms = s.visitNorm
	}
	if t := s.output; t != nil {
		v.logits = func(hidden, grad []float32, n int) {
			s.pool.AddCross(t.dense, grad, hidden, n, t.Spec.Shape[0], t.Spec.Shape[1])
		}
	}
	if t := s.embed; t != nil {
		v.embeddings = func(tokens []int32, grad []float32) {
			d, scale := t.Spec.Shape[1], float32(1)
			if e := s.base.Config.Scales.Embedding; e != 0 {
				scale = float32(e)
			}
			for i, id := range tokens {
				kernel.AddScaled(t.dense[int(id)*d:(int(id)+1)*d], grad[i*d:(i+1)*d], scale)
			}
		}
	}
	return v
}

func (s *stored) visitProjection(p infer.Projected) {
	at := place{p.Layer, p.Kind}
	if t := s.biases[at]; t != nil {
		for i := range p.N {
			kernel.Add(t.grads.Scales, p.G[i*len(t.grads.Scales):(i+1)*len(t.grads.Scales)])
		}
	}
	t := s.at[at]
	if t == nil {
		return
	}
	rows, cols := t.Spec.Shape[0], t.Spec.Shape[1]
	grad := s.buffer[:rows*cols]
	clear(grad)
	s.pool.AddCross(grad, p.G, p.X, p.N, rows, cols)
	t.AddGradient(s.pool, t.grads, grad)
}

// visitNorm adds Σ g·x/rms(x).
func (s *stored) visitNorm(n infer.Normed) {
	t := s.norms[place{n.Layer, n.Kind}]
	if t == nil {
		return
	}
	d := len(t.grads.Scales)
	inverse := make([]float32, n.N)
	for i := range inverse {
		x := n.X[i*d : (i+1)*d]
		inverse[i] = float32(1 / math.Sqrt(kernel.Dot(x, x)/float64(d)+s.base.Config.RMSNormEps))
	}
	for i, r := range inverse {
		x, g := n.X[i*d:(i+1)*d], n.G[i*d:(i+1)*d]
		for k := range t.grads.Scales {
			t.grads.Scales[k] += float32(float32(r*x[k]) * g[k])
		}
	}
}

// precondition adds the gradients of embedding and head, and converts those by the numbers into those
// by numbers over units.
func (s *stored) precondition(pool *compute.Pool) {
	for _, t := range s.tensors {
		if t.dense != nil {
			t.AddGradient(pool, t.grads, t.dense)
			clear(t.dense)
		}
		s.each(pool, t, func(at, i int) { s.grads[at] *= t.units[i] })
	}
}

// each calls f for every value of a tensor: its index in the optimizer's and in the tensor's.
func (s *stored) each(pool *compute.Pool, t *storedTensor, f func(at, i int)) {
	n := t.end - t.first
	pool.Run((n+optimizerChunk-1)/optimizerChunk, func(_, c int) {
		for i := c * optimizerChunk; i < min((c+1)*optimizerChunk, n); i++ {
			f(t.first+i, i)
		}
	})
}

// pack stores the numbers of weights, rounded as the artifact has them.
func (s *stored) pack(pool *compute.Pool, weights []float32, _ safetensors.DType) {
	largest := 0
	for _, t := range s.tensors {
		largest = max(largest, t.end-t.first)
	}
	values := make([]float32, largest)
	for _, t := range s.tensors {
		v := values[:t.end-t.first]
		s.each(pool, t, func(at, i int) { v[i] = weights[at] * t.units[i] })
		t.Store(pool, parted(v, [3]int{len(t.weights.Tables), len(t.weights.Scales), len(t.weights.Codes)}))
	}
	pool.Run(len(s.tensors), func(_, i int) { s.tensors[i].pack() })
}

// pack makes what the engine computes with.
func (t *storedTensor) pack() {
	switch x := t.Trainable.(type) {
	case *trainedVector:
		t.vector = append([]float32(nil), x.values...)
	case *trainedInt8:
		t.matrix = compute.PackInt8(t.Spec.Shape[0], t.Spec.Shape[1], x.q, x.scale)
	default:
		m, err := infer.PackGrid(t.grid, t.Data(), t.Spec.Shape[0], t.Spec.Shape[1])
		if err != nil {
			panic("recovery: " + t.Spec.Name + ": " + err.Error()) // stored values are finite
		}
		t.matrix = m
	}
}

func (s *stored) attach(m *infer.Model) {
	for _, t := range s.tensors {
		if t.matrix != nil {
			m.SetMatrix(t.Spec, t.matrix)
		} else {
			m.SetVector(t.Spec, t.vector)
		}
	}
}

// backWork counts the gradients of inputs and weights.
func (s *stored) backWork() (work int64) {
	for _, spec := range s.base.Config.Tensors() {
		n := int64(1)
		for _, d := range spec.Shape {
			n *= int64(d)
		}
		if spec.Role == model.Projection {
			work += n
			if s.at[place{spec.Layer, spec.Kind}] != nil {
				work += n
			}
		}
	}
	if s.output != nil {
		work += s.base.HeadWork()
	}
	return work
}
