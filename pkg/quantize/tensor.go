package quantize

import (
	"bytes"
	"context"
	"errors"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/gptq"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// compute sets p.data and the figures of p.
func (pl *pipeline) compute(ctx context.Context, it *item, p *pending) (err error) {
	defer compute.Recover(&err)
	err = safetensors.Guard(it.Tensor.Path(), func() error {
		if it.Form == artifact.RowInt8 {
			q, scale, sqErr, sqNorm, err := artifact.QuantizeRows(pl.pool, it.Tensor)
			p.data = [][]byte{q, float32Bytes(scale)}
			p.sqErr, p.sqNorm = sqErr, sqNorm
			return err
		}
		if g, ok := pl.job.grid(it); ok {
			return pl.onGrid(ctx, it, g, p)
		}
		p.data = [][]byte{bytes.Clone(it.Tensor.Bytes())}
		return it.Tensor.CheckFinite()
	})
	if err != nil && ctx.Err() == nil && fault.KindOf(err) == fault.Unexpected {
		return it.inputf("%v", err)
	}
	return err
}

// onGrid computes a matrix on a grid, with error compensation if there is calibration text.
func (pl *pipeline) onGrid(ctx context.Context, it *item, g grid.Grid, p *pending) error {
	rows, cols := it.Spec.Shape[0], it.Spec.Shape[1]
	src, f, err := pl.aim(ctx, it, g, p)
	if err != nil {
		return err
	}
	if f == nil {
		data, r, err := g.Quantize(pl.pool, src, rows, cols, nil)
		p.data, p.sqErr, p.sqNorm = data, r.SquaredError, r.SquaredNorm
		return err
	}
	out, err := pl.output(ctx, it, p)
	if err != nil {
		return err
	}
	var data grid.Data
	var r gptq.Report
	if pl.exchange != nil {
		data, r, err = pl.exchange.compensate(ctx, it, g, src, f, out)
	} else {
		data, r, err = g.Compensate(pl.pool, src, rows, cols, f, out)
	}
	if err != nil {
		return err
	}
	if r.PlainError > 0 {
		p.outErr = r.OutputError / r.PlainError
	}
	p.data = data
	return p.measure(it, g)
}

// aim returns the weights to quantize, and the statistics of their input for error compensation:
// then they are those that it aims at. The statistics are nil if there is no calibration text, or if
// the module cannot be compensated; p.note then has the reason.
func (pl *pipeline) aim(ctx context.Context, it *item, g grid.Grid, p *pending) (src grid.Source, f *gptq.Factor, err error) {
	if src, err = artifact.PaletteSource(it.Tensor); err != nil || pl.text == nil && pl.stats == nil {
		return src, nil, err
	}
	if pl.stats != nil {
		var reason error
		if f, reason, err = pl.stats.factor(ctx, it, g); reason != nil {
			p.note = "not compensated: " + reason.Error()
		}
		return src, f, err
	}
	embedding := it.Spec.Role == model.Embedding
	var reason error
	switch {
	case embedding && !pl.job.src.Config.TieEmbeddings:
		return src, nil, nil
	case embedding:
		if f, reason, err = pl.tiedFactor(ctx, g.Run()); err != nil {
			return src, nil, err
		}
	default:
		if err := pl.text.accumulate(ctx, it.Spec); err != nil {
			return src, nil, err
		}
		f, reason = pl.text.moments.factor, pl.text.moments.reason
	}
	if ctx.Err() != nil {
		return src, nil, ctx.Err()
	}
	if reason != nil {
		p.note = "not compensated: " + reason.Error()
		return src, nil, nil
	}
	if !embedding {
		src = grid.Source{}
		src.F32, err = pl.text.target(it)
	}
	return src, f, err
}

// output returns the statistics of the gradients at the outputs of a projection; nil if there are none,
// or if the loss does not depend on the module: p.note then says so.
func (pl *pipeline) output(ctx context.Context, it *item, p *pending) (*gptq.Output, error) {
	if pl.outputs == nil || it.Spec.Role != model.Projection {
		return nil, nil
	}
	moment, squares, err := pl.outputs.Output(ctx, it.Spec)
	if err != nil {
		var f *fault.Error
		if pl.stats == nil && errors.As(err, &f) { // in the saved state: the input is not at fault
			kept := *f
			kept.Kind, kept.Hint = fault.Output, "give the command again"
			err = &kept
		}
		return nil, err
	}
	var out *gptq.Output
	if moment != nil {
		out, err = gptq.NewOutput(moment, it.Spec.Shape[0], pl.outputs.Draws())
	} else {
		out, err = gptq.NewOutputDiagonal(squares)
	}
	if err != nil {
		p.note = "compensated without the gradients of its outputs: " + err.Error()
	}
	return out, nil
}

// measure sets the error of a quantized matrix relative to the source weights.
func (p *pending) measure(it *item, g grid.Grid) error {
	rows, cols := it.Spec.Shape[0], it.Spec.Shape[1]
	stored, err := g.Weights(p.data, rows, cols)
	if err != nil {
		return err
	}
	w, got := make([]float32, cols), make([]float32, cols)
	for row := range rows {
		if err := it.Tensor.Float32(w, row*cols); err != nil {
			return err
		}
		if err := stored(got, row, row+1); err != nil {
			return err
		}
		for i, v := range w {
			d := float64(v) - float64(got[i])
			p.sqErr += d * d
			p.sqNorm += float64(v) * float64(v)
		}
	}
	return nil
}
