package quantize

import (
	"bytes"
	"context"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// compute sets p.data and the figures of p.
func (pl *pipeline) compute(ctx context.Context, it *item, p *pending) (err error) {
	defer compute.Recover(&err)
	err = safetensors.Guard(it.Tensor.Path(), func() error {
		switch it.Form {
		case artifact.Palette:
			return pl.palettize(ctx, it, p)
		case artifact.RowInt8:
			q, scale, sqErr, sqNorm, err := quantizeRows(pl.pool, it.Tensor)
			p.data = [][]byte{q, float32Bytes(scale)}
			p.sqErr, p.sqNorm = sqErr, sqNorm
			return err
		}
		if t, block := it.Form.Block(); block {
			return pl.blocks(ctx, it, t, p)
		}
		p.data = [][]byte{bytes.Clone(it.Tensor.Bytes())}
		return it.Tensor.CheckFinite()
	})
	if err != nil && ctx.Err() == nil && fault.KindOf(err) == fault.Unexpected {
		return it.inputf("%v", err)
	}
	return err
}

// palettize computes a palette, with error compensation if there is calibration text.
func (pl *pipeline) palettize(ctx context.Context, it *item, p *pending) (err error) {
	src, err := artifact.PaletteSource(it.Tensor)
	if err != nil {
		return err
	}
	rows, cols := it.Spec.Shape[0], it.Spec.Shape[1]
	opt := palettize.Options{Bits: it.Bits, GroupRows: pl.job.opts.GroupRows, NoRowScale: pl.job.opts.NoRowScale}
	m, report, err := pl.compensate(ctx, it, p, opt)
	if m == nil && err == nil {
		m, report, err = palettize.Palettize(pl.pool, src, rows, cols, opt)
	}
	if err != nil {
		return err
	}
	p.data = [][]byte{m.Indices, uint16Bytes(m.LUT)}
	if m.RowScale != nil {
		p.data = append(p.data, uint16Bytes(m.RowScale))
	}
	p.sqErr, p.sqNorm = report.SquaredError, report.SquaredNorm
	return nil
}

// target returns the weights that error compensation aims at. It returns nil if there is no
// calibration text, or if the module cannot be compensated; p.note then has the reason.
func (pl *pipeline) target(ctx context.Context, it *item, p *pending) ([]float32, error) {
	if pl.text == nil || it.Spec.Role == model.Embedding {
		return nil, nil
	}
	if err := pl.text.accumulate(ctx, it.Spec); err != nil {
		return nil, err
	}
	if err := pl.text.moments.reason; err != nil {
		p.note = "not compensated: " + err.Error()
		return nil, nil
	}
	return pl.text.target(it)
}

// compensate palettizes with error compensation. It returns a nil matrix without a target.
func (pl *pipeline) compensate(ctx context.Context, it *item, p *pending, opt palettize.Options) (*palettize.Matrix, palettize.Report, error) {
	w, err := pl.target(ctx, it, p)
	if w == nil || err != nil {
		return nil, palettize.Report{}, err
	}
	m, r, err := palettize.Compensate(pl.pool, palettize.Source{F32: w}, it.Spec.Shape[0], it.Spec.Shape[1], opt, pl.text.moments.factor, palettize.Compensation{})
	if err != nil {
		return nil, palettize.Report{}, err
	}
	if r.PlainError > 0 {
		p.outErr = r.OutputError / r.PlainError
	}
	report, err := distance(it, func(dst []float32, row int) error {
		m.DequantizeRows(dst, row, row+1)
		return nil
	})
	return m, report, err
}

// blocks computes blocks of ggml, with error compensation if there is calibration text.
func (pl *pipeline) blocks(ctx context.Context, it *item, t ggml.Type, p *pending) error {
	rows, cols := it.Spec.Shape[0], it.Spec.Shape[1]
	w, err := pl.target(ctx, it, p)
	if err != nil {
		return err
	}
	if w == nil {
		fill := func(dst []float32, r0, _ int) error { return it.Tensor.Float32(dst, r0*cols) }
		data, report, err := grid.Quantize(pl.pool, t, fill, rows, cols, nil)
		p.data, p.sqErr, p.sqNorm = [][]byte{data}, report.SquaredError, report.SquaredNorm
		return err
	}
	data, r, err := grid.Compensate(pl.pool, t, w, rows, cols, pl.text.moments.factor)
	if err != nil {
		return err
	}
	if r.PlainError > 0 {
		p.outErr = r.OutputError / r.PlainError
	}
	n := t.RowBytes(cols)
	report, err := distance(it, func(dst []float32, row int) error { return t.Dequantize(dst, data[row*n:(row+1)*n]) })
	p.data, p.sqErr, p.sqNorm = [][]byte{data}, report.SquaredError, report.SquaredNorm
	return err
}

// distance returns the error of a quantized matrix relative to the source weights. stored
// computes a row of it.
func distance(it *item, stored func(dst []float32, row int) error) (r palettize.Report, err error) {
	rows, cols := it.Spec.Shape[0], it.Spec.Shape[1]
	w, got := make([]float32, cols), make([]float32, cols)
	for row := range rows {
		if err := it.Tensor.Float32(w, row*cols); err != nil {
			return r, err
		}
		if err := stored(got, row); err != nil {
			return r, err
		}
		for i, v := range w {
			d := float64(v) - float64(got[i])
			r.SquaredError += d * d
			r.SquaredNorm += float64(v) * float64(v)
		}
	}
	return r, nil
}
