package artifact

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// BitsPerWeight are three figures that are always reported separately.
type BitsPerWeight struct {
	// Projections: stored bits of the projection matrices (indices, look-up
	// tables, row scales, or the plain values of one that was kept) over their
	// weights. A head in palettes or on another grid counts here; the embedding and an
	// int8 head do not.
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
	return s.Spec.Role == model.Projection || s.Spec.Role == model.Head && (s.Form == Palette || s.Form.OnGrid())
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
		return gridInfos(name, shape, grid.Palette{Bits: bits, GroupRows: groupRows, RowScale: rowScale})
	case RowInt8:
		return []safetensors.Info{
			{Name: name + SuffixInt8, DType: safetensors.I8, Shape: slices.Clone(shape)},
			{Name: name + SuffixScale, DType: safetensors.F32, Shape: slices.Clone(shape[:1])},
		}
	}
	if g, ok := form.Grid(ScaleType(dtype)); ok {
		return gridInfos(name, shape, g)
	}
	return []safetensors.Info{{Name: name, DType: dtype, Shape: slices.Clone(shape)}}
}

// gridInfos returns the tensors of a matrix on a grid.
func gridInfos(name string, shape []int, g grid.Grid) []safetensors.Info {
	infos := g.Tensors(shape[0], shape[1])
	for i := range infos {
		infos[i].Name = name + infos[i].Name
	}
	return infos
}

// StoredLayout determines how the tensors of an artifact store each tensor of the model, in the
// order of [model.Config.Tensors]. It is an error if a tensor is missing, a duplicate or not part
// of the model, or has another type or shape than its form requires. groupRows is the number of
// rows that share a look-up table.
func StoredLayout(cfg *model.Config, groupRows int, tensors []TensorDigest) ([]StoredTensor, error) {
	l := layouter{group: groupRows, left: make(map[string]TensorDigest, len(tensors)), forms: map[string][]Form{}}
	for _, t := range tensors {
		if _, duplicate := l.left[t.Name]; duplicate {
			return nil, fmt.Errorf("duplicate tensor %q", t.Name)
		}
		l.left[t.Name] = t
		name, form := splitForm(t.Name)
		l.forms[name] = append(l.forms[name], form)
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

// splitForm splits the name of a stored tensor at the last dot.
func splitForm(name string) (weight string, form Form) {
	i := max(strings.LastIndexByte(name, '.'), 0)
	return name[:i], Form(strings.TrimPrefix(name[i:], "."))
}

type layouter struct {
	group int
	left  map[string]TensorDigest
	forms map[string][]Form // what the names of tensors have after that of a weight
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
	case quantizable && palette:
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
		if g, ok := l.grid(spec); ok {
			return st, l.takeGrid(&st, g)
		}
		st.Form, st.Bits = Plain, 16
		if l.left[spec.Name].DType == "F32" {
			st.Bits = 32
		}
		err = l.take(&st, "", spec.Shape, "F16", "BF16", "F32")
	}
	return st, err
}

// grid returns the grid of a matrix that is on one but no palette.
func (l *layouter) grid(spec model.TensorSpec) (grid.Grid, bool) {
	if len(spec.Shape) != 2 {
		return nil, false
	}
	scales := safetensors.F16
	if l.left[spec.Name+suffixScales].DType == safetensors.BF16.String() {
		scales = safetensors.BF16
	}
	for _, form := range l.forms[spec.Name] {
		if g, ok := form.Grid(scales); ok {
			return g, true
		}
	}
	return nil, false
}

// takeGrid takes the tensors of a matrix on a grid.
func (l *layouter) takeGrid(st *StoredTensor, g grid.Grid) error {
	st.Form, st.Bits = GridForm(g), g.CodeBits()
	if err := g.Check(st.Spec.Shape[1]); err != nil {
		return fmt.Errorf("tensor %q: %v", st.Spec.Name, err)
	}
	for _, t := range g.Tensors(st.Spec.Shape[0], st.Spec.Shape[1]) {
		if err := l.take(st, t.Name, t.Shape, t.DType.String()); err != nil {
			return err
		}
	}
	return nil
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
