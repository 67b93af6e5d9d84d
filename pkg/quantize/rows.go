package quantize

import (
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

// rows returns the function that computes rows of a stored tensor in float32; a
// vector is a matrix of one column.
func (a *artifact) rows(st *infer.StoredTensor) (func(dst []float32, r0, r1 int) error, error) {
	switch st.Form {
	case infer.Palette:
		m, err := a.palette(st)
		return func(dst []float32, r0, r1 int) error {
			m.DequantizeRows(dst, r0, r1)
			return nil
		}, err
	case infer.RowInt8:
		q, scale, err := a.rows8(st)
		cols := st.Spec.Shape[1]
		return func(dst []float32, r0, r1 int) error {
			for r := r0; r < r1; r++ {
				row := dst[(r-r0)*cols : (r-r0+1)*cols]
				for i, x := range q[r*cols : (r+1)*cols] {
					row[i] = float32(x) * scale[r]
				}
			}
			return nil
		}, err
	}
	t, _ := a.file.Tensor(st.Names[0])
	return denseRows(t), nil
}

// denseRows is rows of a tensor that is stored as it is.
func denseRows(t *safetensors.Tensor) func(dst []float32, r0, r1 int) error {
	width := t.NumElements() / t.Shape[0]
	return func(dst []float32, r0, r1 int) error {
		return t.Float32(dst, r0*width)
	}
}
