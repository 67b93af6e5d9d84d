package quantize

import (
	"afmq/internal/kernel"
	"afmq/pkg/adapter"
	"afmq/pkg/model"
)

// openAdapter reads the adapter to merge, if there is one.
func (d *dequantizer) openAdapter(opts DequantizeOptions) error {
	if opts.Adapter == "" {
		return nil
	}
	cfg, err := model.LoadConfig(d.a.Dir)
	if err != nil {
		return err
	}
	d.adapter, err = adapter.Open(opts.Adapter, d.a.Dir, cfg, opts.AllowUnbound)
	return err
}

// merged returns a function that fills rows like fill and adds the adapter, scale·B·A.
func (d *dequantizer) merged(spec model.TensorSpec, w adapter.Weights, fill func(dst []float32, r0, r1 int) error) func(dst []float32, r0, r1 int) error {
	rank, cols, scale := d.adapter.Config.RankOf(spec.Module()), spec.Shape[1], d.adapter.Config.ScaleOf(spec.Module())
	return func(dst []float32, r0, r1 int) error {
		if err := fill(dst, r0, r1); err != nil {
			return err
		}
		for r := r0; r < r1; r++ {
			for j, x := range w.B[r*rank : (r+1)*rank] {
				kernel.AddScaled(dst[(r-r0)*cols:(r-r0+1)*cols], w.A[j*cols:(j+1)*cols], scale*x)
			}
		}
		return nil
	}
}
