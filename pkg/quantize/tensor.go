package quantize

import (
	"bytes"
	"context"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
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

// compensate palettizes with error compensation. It returns a nil matrix if there is no
// calibration text, or if the module cannot be compensated; p.note then has the reason.
func (pl *pipeline) compensate(ctx context.Context, it *item, p *pending, opt palettize.Options) (*palettize.Matrix, palettize.Report, error) {
	if pl.text == nil {
		return nil, palettize.Report{}, nil
	}
	if err := pl.text.accumulate(ctx, it.Spec); err != nil {
		return nil, palettize.Report{}, err
	}
	if err := pl.text.moments.reason; err != nil {
		p.note = "not compensated: " + err.Error()
		return nil, palettize.Report{}, nil
	}
	w, err := pl.text.target(it)
	if err != nil {
		return nil, palettize.Report{}, err
	}
	m, r, err := palettize.Compensate(pl.pool, palettize.Source{F32: w}, it.Spec.Shape[0], it.Spec.Shape[1], opt, pl.text.moments.factor, palettize.Compensation{})
	if err != nil {
		return nil, palettize.Report{}, err
	}
	if r.PlainError > 0 {
		p.outErr = r.OutputError / r.PlainError
	}
	report, err := distance(it.Tensor, m)
	return m, report, err
}

// distance returns the error of a palettized matrix relative to the source weights.
func distance(src *safetensors.Tensor, m *palettize.Matrix) (r palettize.Report, err error) {
	w, got := make([]float32, m.Cols), make([]float32, m.Cols)
	for row := range m.Rows {
		if err := src.Float32(w, row*m.Cols); err != nil {
			return r, err
		}
		m.DequantizeRows(got, row, row+1)
		for i, v := range w {
			d := float64(v) - float64(got[i])
			r.SquaredError += d * d
			r.SquaredNorm += float64(v) * float64(v)
		}
	}
	return r, nil
}
