package artifact

import (
	"fmt"
	"math/bits"
	"slices"

	"afmq/pkg/ggml"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// BitsPerWeight are three figures that are always reported separately.
type BitsPerWeight struct {
	// Projections: stored bits of the projection matrices (indices, look-up
	// tables, row scales, or the plain values of one that was kept) over their
	// weights. A head in palettes or blocks counts here; embedding and int8 head do
	// not.
	Projections float64 `json:"projections"`
	// Model: bits of all stored tensors over all parameters of the model.
	Model float64 `json:"model"`
	// WithAdapter: Model with an adapter's tensors added; nil without one.
	WithAdapter *float64 `json:"with_adapter"`
}

// StoredTensor describes how an artifact stores one tensor of the model.
type StoredTensor struct {
	Spec  model.TensorSpec
	Form  Form
	Bits  int      // of an index or a stored value
	Bytes int64    // of all stored tensors together
	Names []string // of the stored tensors, in the order of the file
}

// Weights returns the number of parameters of the tensor.
func (s *StoredTensor) Weights() int64 {
	n := int64(1)
	for _, d := range s.Spec.Shape {
		n *= int64(d)
	}
	return n
}

// Counted reports whether the tensor counts in [BitsPerWeight].Projections.
func (s *StoredTensor) Counted() bool {
	_, block := s.Form.Block()
	return s.Spec.Role == model.Projection || s.Spec.Role == model.Head && (s.Form == Palette || block)
}

// Metadata returns the __metadata__ of an artifact's model.safetensors. transformers 4 refuses a
// format other than "pt"; otherwise it would initialize the weights that it does not find at
// random. transformers 5 does not check the format.
func Metadata() map[string]string { return map[string]string{"format": "afmq"} }

// StoredInfos returns the tensors that an artifact stores for one tensor of a model, in the order
// of the file. dtype is the type in the checkpoint, bits the width of an index, groupRows the
// number of rows that share a look-up table.
func StoredInfos(spec model.TensorSpec, dtype safetensors.DType, form Form, bits, groupRows int, rowScale bool) []safetensors.Info {
	name, shape := spec.Name, spec.Shape
	switch form {
	case Palette:
		m := palettize.Matrix{Rows: shape[0], Cols: shape[1], Bits: bits, GroupRows: groupRows}
		infos := []safetensors.Info{
			{Name: name + SuffixIndices, DType: safetensors.U8, Shape: []int{m.Rows, m.RowBytes()}},
			{Name: name + SuffixLUT, DType: safetensors.F16, Shape: []int{m.Groups(), 1 << bits}},
		}
		if rowScale {
			infos = append(infos, safetensors.Info{Name: name + SuffixRowScale, DType: safetensors.F16, Shape: []int{m.Rows}})
		}
		return infos
	case RowInt8:
		return []safetensors.Info{
			{Name: name + SuffixInt8, DType: safetensors.I8, Shape: slices.Clone(shape)},
			{Name: name + SuffixScale, DType: safetensors.F32, Shape: slices.Clone(shape[:1])},
		}
	}
	if t, ok := form.Block(); ok {
		return []safetensors.Info{{Name: name + form.suffix(), DType: safetensors.U8, Shape: []int{shape[0], t.RowBytes(shape[1])}}}
	}
	return []safetensors.Info{{Name: name, DType: dtype, Shape: slices.Clone(shape)}}
}

// StoredLayout determines how the tensors of an artifact store each tensor of the model, in the
// order of [model.Config.Tensors]. It is an error if a tensor is missing, a duplicate or not part
// of the model, or has another type or shape than its form requires. groupRows is the number of
// rows that share a look-up table.
func StoredLayout(cfg *model.Config, groupRows int, tensors []TensorDigest) ([]StoredTensor, error) {
	l := layouter{group: groupRows, left: make(map[string]TensorDigest, len(tensors))}
	for _, t := range tensors {
		if _, duplicate := l.left[t.Name]; duplicate {
			return nil, fmt.Errorf("duplicate tensor %q", t.Name)
		}
		l.left[t.Name] = t
	}
	var out []StoredTensor
	for _, spec := range cfg.Tensors() {
		st, err := l.find(spec)
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	for _, t := range tensors { // in the given order, so that the error is deterministic
		if _, ok := l.left[t.Name]; ok {
			return nil, fmt.Errorf("tensor %q is not part of the %s model that config.json describes", t.Name, cfg.ModelType)
		}
	}
	return out, nil
}

type layouter struct {
	group int
	left  map[string]TensorDigest
}

// find determines how one tensor of the model is stored, and removes its stored tensors from
// l.left.
func (l *layouter) find(spec model.TensorSpec) (StoredTensor, error) {
	st := StoredTensor{Spec: spec}
	quantizable := len(spec.Shape) == 2
	_, palette := l.left[spec.Name+SuffixIndices]
	_, int8 := l.left[spec.Name+SuffixInt8]
	var err error
	switch {
	case quantizable && palette && (spec.Role == model.Projection || spec.Role == model.Head):
		st.Form = Palette
		lut := l.left[spec.Name+SuffixLUT]
		if len(lut.Shape) != 2 || bits.OnesCount(uint(lut.Shape[1])) != 1 || lut.Shape[1] < 2 || lut.Shape[1] > 256 {
			return st, fmt.Errorf("tensor %q is missing or is not a table of 2, 4, … 256 columns: shape %v", spec.Name+SuffixLUT, lut.Shape)
		}
		st.Bits = bits.TrailingZeros(uint(lut.Shape[1]))
		rows, cols := spec.Shape[0], spec.Shape[1]
		err = l.take(&st, SuffixIndices, []int{rows, (cols*st.Bits + 7) / 8}, "U8")
		if err == nil {
			err = l.take(&st, SuffixLUT, []int{(rows + l.group - 1) / l.group, 1 << st.Bits}, "F16")
		}
		if _, ok := l.left[spec.Name+SuffixRowScale]; ok && err == nil {
			err = l.take(&st, SuffixRowScale, []int{rows}, "F16")
		}
	case quantizable && int8 && (spec.Role == model.Embedding || spec.Role == model.Head):
		st.Form, st.Bits = RowInt8, 8
		err = l.take(&st, SuffixInt8, spec.Shape, "I8")
		if err == nil {
			err = l.take(&st, SuffixScale, spec.Shape[:1], "F32")
		}
	default:
		if t, ok := l.block(spec); ok {
			st.Form, st.Bits = BlockForm(t), CodeBits(t)
			if cols := spec.Shape[1]; cols%t.BlockWeights() != 0 {
				return st, fmt.Errorf("tensor %q: blocks of %d weights do not divide %d columns", spec.Name+st.Form.suffix(), t.BlockWeights(), cols)
			}
			return st, l.take(&st, st.Form.suffix(), []int{spec.Shape[0], t.RowBytes(spec.Shape[1])}, "U8")
		}
		st.Form, st.Bits = Plain, 16
		if l.left[spec.Name].DType == "F32" {
			st.Bits = 32
		}
		err = l.take(&st, "", spec.Shape, "F16", "BF16", "F32")
	}
	return st, err
}

// block returns the type of the blocks in which a matrix is stored.
func (l *layouter) block(spec model.TensorSpec) (ggml.Type, bool) {
	if len(spec.Shape) != 2 {
		return 0, false
	}
	for _, t := range ggml.Types() {
		if _, ok := l.left[spec.Name+BlockForm(t).suffix()]; ok && t.HasCodes() {
			return t, true
		}
	}
	return 0, false
}

// take checks one stored tensor and removes it from l.left.
func (l *layouter) take(st *StoredTensor, suffix string, shape []int, types ...string) error {
	name := st.Spec.Name + suffix
	t, ok := l.left[name]
	if !ok {
		return fmt.Errorf("tensor %q is missing", name)
	}
	if !slices.Equal(t.Shape, shape) {
		return fmt.Errorf("tensor %q has shape %v; expected %v", name, t.Shape, shape)
	}
	if !slices.Contains(types, t.DType) {
		return fmt.Errorf("tensor %q is %s; expected %v", name, t.DType, types)
	}
	n, err := t.Size()
	if err != nil {
		return err
	}
	delete(l.left, name)
	st.Bytes += n
	st.Names = append(st.Names, name)
	return nil
}

// MeasureBits computes the bits per weight of projections and model from a layout.
func MeasureBits(layout []StoredTensor) BitsPerWeight {
	var projBytes, projWeights, bytes, weights int64
	for i := range layout {
		st := &layout[i]
		bytes += st.Bytes
		weights += st.Weights()
		if st.Counted() {
			projBytes += st.Bytes
			projWeights += st.Weights()
		}
	}
	var b BitsPerWeight
	if projWeights > 0 {
		b.Projections = 8 * float64(projBytes) / float64(projWeights)
	}
	if weights > 0 {
		b.Model = 8 * float64(bytes) / float64(weights)
	}
	return b
}
