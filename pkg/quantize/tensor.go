package quantize

import (
	"bytes"
	"context"

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
			q, scale, sqErr, sqNorm, err := quantizeRows(pl.pool, it.Tensor)
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
	w, f, err := pl.aim(ctx, it, g, p)
	if err != nil {
		return err
	}
	if w == nil {
		src, err := artifact.PaletteSource(it.Tensor)
		if err != nil {
			return err
		}
		data, r, err := g.Quantize(pl.pool, src, rows, cols, nil)
		p.data, p.sqErr, p.sqNorm = data, r.SquaredError, r.SquaredNorm
		return err
	}
	data, r, err := g.Compensate(pl.pool, w, rows, cols, f)
	if err != nil {
		return err
	}
	if r.PlainError > 0 {
		p.outErr = r.OutputError / r.PlainError
	}
	p.data = data
	return p.measure(it, g)
}

// aim returns the weights that error compensation aims at, and the statistics of their input. The
// weights are nil if there is no calibration text, or if the module cannot be compensated; p.note
// then has the reason.
func (pl *pipeline) aim(ctx context.Context, it *item, g grid.Grid, p *pending) (w []float32, f *gptq.Factor, err error) {
	embedding := it.Spec.Role == model.Embedding
	if pl.text == nil || embedding && !pl.job.src.Config.TieEmbeddings {
		return nil, nil, nil
	}
	var reason error
	if embedding {
		f, reason = pl.tiedFactor(ctx, g.Run())
	} else if err := pl.text.accumulate(ctx, it.Spec); err != nil {
		return nil, nil, err
	} else {
		f, reason = pl.text.moments.factor, pl.text.moments.reason
	}
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case reason != nil:
		p.note = "not compensated: " + reason.Error()
		return nil, nil, nil
	case embedding:
		w, err = it.values()
	default:
		w, err = pl.text.target(it)
	}
	return w, f, err
}

// values returns the finite weights of a matrix.
func (it *item) values() ([]float32, error) {
	// Check first: NaN or Inf would spread over its row and be reported at another position.
	if err := it.Tensor.CheckFinite(); err != nil {
		return nil, err
	}
	w := make([]float32, it.Tensor.NumElements())
	return w, it.Tensor.Float32(w, 0)
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
