package infer

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/bits"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// weightReader finds the stored tensors of a model, in whichever form they are stored.
type weightReader struct {
	dir    string
	cfg    *model.Config
	finder *artifact.TensorFinder
}

// weightLoad is one tensor of the model that was found, with names, types and shapes
// checked, and remains to be packed. Loads run in parallel.
type weightLoad struct {
	tensors []*safetensors.Tensor // that store it
	pack    func() error
}

// verify checks the stored tensors against the manifest's list.
func (l *weightLoad) verify(ctx context.Context, listed map[string]artifact.TensorDigest) error {
	for _, t := range l.tensors {
		want, ok := listed[t.Name]
		if !ok {
			return fault.Inputf(t.Path(), "tensor %q is not listed in %s", t.Name, artifact.ManifestFile)
		}
		if err := artifact.CheckTensor(ctx, t, want); err != nil {
			return err
		}
	}
	return nil
}

// vector loads the weight of a norm or a bias, as float32, and passes it to set.
func (w *weightReader) vector(spec model.TensorSpec, set func(v []float32)) (weightLoad, error) {
	t, err := w.finder.Tensor(spec.Name, spec.Shape, safetensors.FloatTypes()...)
	if err != nil {
		return weightLoad{}, err
	}
	return weightLoad{[]*safetensors.Tensor{t}, func() error {
		v := make([]float32, t.NumElements())
		if err := t.Float32(v, 0); err != nil {
			return err
		}
		for i, x := range v {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return fault.Inputf(t.Path(), "tensor %q holds %v at index %d", t.Name, x, i)
			}
		}
		set(v)
		return nil
	}}, nil
}

// matrix loads a weight matrix [rows, cols].
func (w *weightReader) matrix(spec model.TensorSpec, dst **compute.Matrix) (weightLoad, error) {
	name := w.finder.Names(spec.Name)[0]
	switch {
	case w.finder.Has(name + artifact.SuffixIndices):
		return w.palette(name, spec, dst)
	case w.finder.Has(name + artifact.SuffixInt8):
		return w.int8(name, spec, dst)
	}
	if g, ok := w.finder.Grid(name); ok {
		return w.onGrid(name, g, spec, dst)
	}
	t, copies, err := w.finder.Dense(spec)
	if err != nil {
		return weightLoad{}, err
	}
	return weightLoad{append([]*safetensors.Tensor{t}, copies...), func() error {
		defer t.Release()
		for _, c := range copies {
			if !bytes.Equal(t.Bytes(), c.Bytes()) {
				return fault.Inputf(c.Path(), "tensors %q and %q differ, but config.json ties them", t.Name, c.Name)
			}
		}
		if err := t.CheckFinite(); err != nil {
			return err
		}
		m, err := PackFloats(t)
		*dst = m
		return err
	}}, nil
}

// onGrid loads a matrix on a grid that is no palette.
func (w *weightReader) onGrid(name string, g grid.Grid, spec model.TensorSpec, dst **compute.Matrix) (weightLoad, error) {
	rows, cols := spec.Shape[0], spec.Shape[1]
	if err := g.Check(cols); err != nil {
		return weightLoad{}, fault.Inputf(w.dir, "tensor %q: %v", name, err)
	}
	var tensors []*safetensors.Tensor
	var data grid.Data
	for _, info := range g.Tensors(rows, cols) {
		t, err := w.finder.Tensor(name+info.Name, info.Shape, info.DType)
		if err != nil {
			return weightLoad{}, err
		}
		tensors, data = append(tensors, t), append(data, t.Bytes())
	}
	return weightLoad{tensors, func() error {
		m, err := PackGrid(g, data, rows, cols)
		for _, t := range tensors {
			t.Release()
		}
		if err != nil {
			return fault.Inputf(tensors[0].Path(), "tensor %q: %v", name, err)
		}
		*dst = m
		return nil
	}}, nil
}

// PackGrid packs a stored matrix [rows, cols]: palettes as they are, other grids as the float32
// values that the codes stand for. A value that is not finite is an error.
func PackGrid(g grid.Grid, data grid.Data, rows, cols int) (*compute.Matrix, error) {
	if p, ok := g.(grid.Palette); ok {
		m, err := p.Matrix(data, rows, cols)
		if err != nil {
			return nil, err
		}
		return compute.PackLUT(rows, cols, m.Bits, m.GroupRows, m.Indices, m.LUT, m.RowScale), nil
	}
	weights, err := g.Weights(data, rows, cols)
	if err != nil {
		return nil, err
	}
	return compute.PackF32Rows(rows, cols, func(w []float32, r0, r1 int) error {
		if err := weights(w, r0, r1); err != nil {
			return err
		}
		for i, v := range w {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("it stands for %v in row %d, column %d", v, r0+i/cols, i%cols)
			}
		}
		return nil
	})
}

// PackFloats packs an F16, BF16 or F32 matrix in its stored type.
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

// palette loads a palettized matrix.
func (w *weightReader) palette(name string, spec model.TensorSpec, dst **compute.Matrix) (weightLoad, error) {
	m, tensors, err := w.findPalette(name, spec)
	if err != nil {
		return weightLoad{}, err
	}
	return weightLoad{tensors, func() error {
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

// findPalette checks names, types and shapes of a palettized matrix and returns it without
// its data, with its tensors: indices, LUT, and row scales if any. The width of an index
// follows from the number of columns of the LUT, the rows of a group from config.json.
func (w *weightReader) findPalette(name string, spec model.TensorSpec) (*palettize.Matrix, []*safetensors.Tensor, error) {
	q := w.cfg.Quantization
	if q == nil {
		return nil, nil, fault.Inputf(w.dir, "tensor %q is palettized, but config.json has no quantization_config", name)
	}
	indices, lut, scale := name+artifact.SuffixIndices, name+artifact.SuffixLUT, name+artifact.SuffixRowScale
	m := &palettize.Matrix{Rows: spec.Shape[0], Cols: spec.Shape[1], GroupRows: q.GroupRows}
	columns, err := w.lutColumns(lut)
	if err != nil {
		return nil, nil, err
	}
	m.Bits = bits.TrailingZeros(uint(columns))
	var tensors []*safetensors.Tensor
	for _, x := range []struct {
		name  string
		shape []int
		dtype safetensors.DType
	}{
		{indices, []int{m.Rows, m.RowBytes()}, safetensors.U8},
		{lut, []int{m.Groups(), columns}, safetensors.F16},
		{scale, []int{m.Rows}, safetensors.F16},
	} {
		if x.name == scale && !w.finder.Has(scale) {
			continue
		}
		t, err := w.finder.Tensor(x.name, x.shape, x.dtype)
		if err != nil {
			return nil, nil, err
		}
		tensors = append(tensors, t)
	}
	return m, tensors, nil
}

// lutColumns returns the number of entries of a look-up table, the columns of the tensor.
func (w *weightReader) lutColumns(name string) (int, error) {
	shape, ok := w.finder.Shape(name)
	if !ok {
		return 0, fault.Inputf(w.dir, "tensor %q is missing", name)
	}
	if len(shape) != 2 || shape[1] < 2 || shape[1] > 256 || bits.OnesCount(uint(shape[1])) != 1 {
		return 0, fault.Inputf(w.dir, "tensor %q has shape %v; a look-up table has 2, 4, … 256 columns", name, shape)
	}
	return shape[1], nil
}

// viewPalette sets the data of a palettized matrix to the mapped tensors.
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

// int8 loads a matrix of 8-bit values with one F32 scale per row.
func (w *weightReader) int8(name string, spec model.TensorSpec, dst **compute.Matrix) (weightLoad, error) {
	rows, cols := spec.Shape[0], spec.Shape[1]
	q, err := w.finder.Tensor(name+artifact.SuffixInt8, []int{rows, cols}, safetensors.I8)
	if err != nil {
		return weightLoad{}, err
	}
	scale, err := w.finder.Tensor(name+artifact.SuffixScale, []int{rows}, safetensors.F32)
	if err != nil {
		return weightLoad{}, err
	}
	return weightLoad{[]*safetensors.Tensor{q, scale}, func() error {
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
