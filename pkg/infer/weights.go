package infer

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"sort"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// store finds the tensors of one model in the files of its checkpoint, and
// remembers which it handed out, so that none is passed over in silence.
type store struct {
	dir  string
	cfg  *model.Config
	ckpt *safetensors.Checkpoint
	used map[string]bool
}

// resolve returns the name under which the checkpoint stores a weight: the
// canonical one, or an alias (a tied model may store only lm_head.weight).
func (s *store) resolve(name string) string {
	for _, n := range append([]string{name}, s.cfg.Aliases(name)...) {
		for _, suffix := range []string{"", artifact.SuffixIndices, artifact.SuffixInt8} {
			if _, ok := s.ckpt.Tensor(n + suffix); ok {
				return n
			}
		}
	}
	return name
}

// get returns a stored tensor of exactly this shape and one of these types.
func (s *store) get(name string, shape []int, types ...safetensors.DType) (*safetensors.Tensor, error) {
	t, ok := s.ckpt.Tensor(name)
	if !ok {
		return nil, fault.Inputf(s.dir, "tensor %q is missing", name)
	}
	if !slices.Equal(t.Shape, shape) {
		return nil, fault.Inputf(t.Path(), "tensor %q has shape %v; config.json asks for %v", name, t.Shape, shape)
	}
	if !slices.Contains(types, t.DType) {
		return nil, fault.Inputf(t.Path(), "tensor %q is %s; expected %s", name, t.DType, safetensors.DTypeNames(types))
	}
	s.used[name] = true
	return t, nil
}

// job is one tensor of the model on its way from the file into memory. Jobs are
// made in order, which checks names and shapes; load runs in parallel.
type job struct {
	path string
	load func() error
}

// vector schedules a norm weight or a bias, float32 in memory.
func (s *store) vector(spec model.TensorSpec, dst *[]float32) (job, error) {
	t, err := s.get(spec.Name, spec.Shape, safetensors.FloatTypes()...)
	if err != nil {
		return job{}, err
	}
	return job{t.Path(), func() error {
		v := make([]float32, t.NumElements())
		if err := t.Float32(v, 0); err != nil {
			return err
		}
		for i, x := range v {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return fault.Inputf(t.Path(), "tensor %q holds %v at index %d", t.Name, x, i)
			}
		}
		*dst = v
		return nil
	}}, nil
}

// matrix schedules a weight matrix [rows, cols] in whichever form it is stored.
func (s *store) matrix(spec model.TensorSpec, dst **compute.Matrix) (job, error) {
	name := s.resolve(spec.Name)
	if _, ok := s.ckpt.Tensor(name + artifact.SuffixIndices); ok {
		return s.palette(name, spec, dst)
	}
	if _, ok := s.ckpt.Tensor(name + artifact.SuffixInt8); ok {
		return s.int8(name, spec, dst)
	}
	t, err := s.get(name, spec.Shape, safetensors.FloatTypes()...)
	if err != nil {
		return job{}, err
	}
	twins, err := s.twins(name, spec)
	if err != nil {
		return job{}, err
	}
	return job{t.Path(), func() error {
		defer t.Release()
		for _, twin := range twins {
			if !bytes.Equal(t.Bytes(), twin.Bytes()) {
				return fault.Inputf(twin.Path(), "tensors %q and %q differ, but config.json ties them", t.Name, twin.Name)
			}
		}
		if err := t.CheckFinite(); err != nil {
			return err
		}
		w, err := PackFloats(t)
		*dst = w
		return err
	}}, nil
}

// PackFloats packs an F16, BF16 or F32 matrix in its own type.
func PackFloats(t *safetensors.Tensor) (*compute.Matrix, error) {
	src, err := artifact.PaletteSource(t)
	if err != nil {
		return nil, err
	}
	rows, cols := t.Shape[0], t.Shape[1]
	switch t.DType {
	case safetensors.F16:
		return compute.PackF16(rows, cols, src.F16), nil
	case safetensors.BF16:
		return compute.PackBF16(rows, cols, src.BF16), nil
	}
	return compute.PackF32(rows, cols, src.F32), nil
}

// twins returns further copies of a tied weight under its other names.
func (s *store) twins(name string, spec model.TensorSpec) ([]*safetensors.Tensor, error) {
	var out []*safetensors.Tensor
	for _, n := range append([]string{spec.Name}, s.cfg.Aliases(spec.Name)...) {
		if _, ok := s.ckpt.Tensor(n); !ok || n == name {
			continue
		}
		first, _ := s.ckpt.Tensor(name)
		t, err := s.get(n, spec.Shape, first.DType)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// palette schedules a palettized matrix. The number of bits follows from the
// width of its look-up tables, the height of a group from config.json.
func (s *store) palette(name string, spec model.TensorSpec, dst **compute.Matrix) (job, error) {
	m, tensors, err := s.findPalette(name, spec)
	if err != nil {
		return job{}, err
	}
	return job{tensors[0].Path(), func() error {
		if err := viewPalette(m, tensors); err != nil {
			return err
		}
		if err := m.Validate(); err != nil {
			return fault.Inputf(tensors[0].Path(), "tensor %q: %v", name, err)
		}
		*dst = compute.PackLUT(m.Rows, m.Cols, m.Bits, m.GroupRows, m.Indices, m.LUT, m.RowScale)
		for _, t := range tensors {
			t.Release()
		}
		return nil
	}}, nil
}

// findPalette checks names, types and shapes of a palettized weight and returns
// it without its data, with its tensors: indices, LUT, and row scales if any.
func (s *store) findPalette(name string, spec model.TensorSpec) (*palettize.Matrix, []*safetensors.Tensor, error) {
	q := s.cfg.Quantization
	if q == nil {
		return nil, nil, fault.Inputf(s.dir, "tensor %q is palettized, but config.json has no quantization_config", name)
	}
	lut, ok := s.ckpt.Tensor(name + artifact.SuffixLUT)
	if !ok {
		return nil, nil, fault.Inputf(s.dir, "tensor %q is missing", name+artifact.SuffixLUT)
	}
	m := &palettize.Matrix{Rows: spec.Shape[0], Cols: spec.Shape[1], GroupRows: q.GroupRows}
	for bits := 1; bits <= 8; bits++ {
		if len(lut.Shape) == 2 && lut.Shape[1] == 1<<bits {
			m.Bits = bits
		}
	}
	if m.Bits == 0 {
		return nil, nil, fault.Inputf(lut.Path(), "tensor %q has shape %v; a look-up table has 2, 4, … 256 columns", lut.Name, lut.Shape)
	}
	indices, err := s.get(name+artifact.SuffixIndices, []int{m.Rows, m.RowBytes()}, safetensors.U8)
	if err != nil {
		return nil, nil, err
	}
	if lut, err = s.get(name+artifact.SuffixLUT, []int{m.Groups(), 1 << m.Bits}, safetensors.F16); err != nil {
		return nil, nil, err
	}
	tensors := []*safetensors.Tensor{indices, lut}
	if _, ok := s.ckpt.Tensor(name + artifact.SuffixRowScale); ok {
		scale, err := s.get(name+artifact.SuffixRowScale, []int{m.Rows}, safetensors.F16)
		if err != nil {
			return nil, nil, err
		}
		tensors = append(tensors, scale)
	}
	return m, tensors, nil
}

func viewPalette(m *palettize.Matrix, tensors []*safetensors.Tensor) (err error) {
	m.Indices = tensors[0].Bytes()
	if m.LUT, err = safetensors.View[uint16](tensors[1]); err != nil {
		return err
	}
	if len(tensors) > 2 {
		m.RowScale, err = safetensors.View[uint16](tensors[2])
	}
	return err
}

// int8 schedules a matrix of 8-bit values with one F32 scale a row.
func (s *store) int8(name string, spec model.TensorSpec, dst **compute.Matrix) (job, error) {
	rows, cols := spec.Shape[0], spec.Shape[1]
	q, err := s.get(name+artifact.SuffixInt8, []int{rows, cols}, safetensors.I8)
	if err != nil {
		return job{}, err
	}
	scale, err := s.get(name+artifact.SuffixScale, []int{rows}, safetensors.F32)
	if err != nil {
		return job{}, err
	}
	return job{q.Path(), func() error {
		values, err := safetensors.View[int8](q)
		if err != nil {
			return err
		}
		scales, err := safetensors.View[float32](scale)
		if err != nil {
			return err
		}
		for i, x := range scales {
			if !(x >= 0) || math.IsInf(float64(x), 0) {
				return fault.Inputf(scale.Path(), "tensor %q holds %v at index %d; a scale is finite and not negative", scale.Name, x, i)
			}
		}
		*dst = compute.PackInt8(rows, cols, values, scales)
		q.Release()
		return nil
	}}, nil
}

// leftover returns an error if the checkpoint stores a tensor that the model
// has no use for: it would mean that config.json describes another model.
func (s *store) leftover() error {
	var extra []string
	for _, name := range s.ckpt.Names() {
		if !s.used[name] && !s.cfg.Ignorable(name) {
			extra = append(extra, name)
		}
	}
	if len(extra) == 0 {
		return nil
	}
	sort.Strings(extra)
	more := ""
	if len(extra) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(extra)-1)
	}
	return fault.Inputf(s.dir, "tensor %q%s has no place in the %s model that config.json describes", extra[0], more, s.cfg.ModelType)
}
