package quantize

import (
	"fmt"

	"afmq/internal/kernel"
	"afmq/pkg/infer"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// calibrated runs the calibration text through the model as it is quantized: each
// module sees what the quantized modules before it make of the text. It holds the
// weights of one layer.
type calibrated struct {
	pool   *kernel.Pool
	model  *infer.Model
	walk   *infer.Walk
	text   *sensitivity.Calibration
	step   string            // the input that factor belongs to
	factor *palettize.Factor // nil where there is none
	reason error             // why there is none
}

func newCalibrated(pool *kernel.Pool, cfg *infer.Config, text *sensitivity.Calibration) *calibrated {
	return &calibrated{pool: pool, text: text, model: &infer.Model{Config: cfg, Blocks: make([]infer.Block, cfg.Layers)}}
}

// inputOf names the input of a module; modules with the same input share a factor.
func inputOf(spec infer.TensorSpec) string {
	switch spec.Kind {
	case "k_proj", "v_proj":
		return fmt.Sprintf("%d.q_proj", spec.Layer)
	case "up_proj":
		return fmt.Sprintf("%d.gate_proj", spec.Layer)
	}
	return fmt.Sprintf("%d.%s", spec.Layer, spec.Kind)
}

// factorFor returns the factor of a projection's or a head's input. Everything before
// it in the order of the forward pass must have been installed.
func (c *calibrated) factorFor(spec infer.TensorSpec) (*palettize.Factor, error) {
	step := inputOf(spec)
	if step == c.step {
		return c.factor, c.reason
	}
	c.reach(spec.Layer)
	n := spec.Shape[1]
	h := make([]float32, n*n)
	for b := range c.walk.Batches() {
		var x []float32
		switch spec.Kind {
		case "q_proj", "k_proj", "v_proj":
			x = c.walk.AttentionIn(b)
		case "o_proj":
			x = c.walk.AttentionOut(b)
		case "gate_proj", "up_proj":
			x = c.walk.FeedForwardIn(b)
		case "down_proj":
			x = c.walk.FeedForwardOut(b)
		default: // the head
			x = c.walk.Finish(c.model.NewRunner(c.pool), b)
		}
		c.pool.AddGram(h, x, c.walk.Tokens(b), n)
	}
	kernel.Symmetrize(h, n)
	c.step = step
	c.factor, c.reason = palettize.NewFactor(c.pool, h, n, palettize.DefaultDamping)
	return c.factor, c.reason
}

// reach takes the walk to a layer; -1 is what follows the last one.
func (c *calibrated) reach(layer int) {
	if layer < 0 {
		layer = c.model.Config.Layers
	}
	if c.walk == nil {
		c.walk = c.model.NewWalk(c.pool, c.text.Sequences)
	}
	for c.walk.Layer() < layer {
		done := c.walk.Layer()
		c.walk.Advance()
		c.model.Blocks[done] = infer.Block{}
	}
}

// install puts a finished tensor of the model into its place, as the artifact has it.
func (c *calibrated) install(it *item, data [][]byte, opts *Options) error {
	if len(it.spec.Shape) == 1 {
		v := make([]float32, it.spec.Shape[0])
		err := it.src.Float32(v, 0)
		c.model.SetVector(it.spec, v)
		return err
	}
	w, err := packItem(it, data, opts)
	if err != nil {
		return err
	}
	c.model.SetMatrix(it.spec, w)
	return nil
}

// packItem packs a matrix from its stored form.
func packItem(it *item, data [][]byte, opts *Options) (*kernel.Matrix, error) {
	rows, cols := it.spec.Shape[0], it.spec.Shape[1]
	switch it.form {
	case infer.Palette:
		var scale []uint16
		if len(data) > 2 {
			scale = bytesUint16(data[2])
		}
		return kernel.PackLUT(rows, cols, it.bits, opts.GroupRows, data[0], bytesUint16(data[1]), scale), nil
	case infer.RowInt8:
		return kernel.PackInt8(rows, cols, bytesInt8(data[0]), bytesFloat32(data[1])), nil
	}
	return packTensor(it.src, rows, cols)
}

// packTensor packs a float matrix in its own type.
func packTensor(t *safetensors.Tensor, rows, cols int) (*kernel.Matrix, error) {
	if t.DType == safetensors.F32 {
		w, err := safetensors.View[float32](t)
		if err != nil {
			return nil, err
		}
		return kernel.PackF32(rows, cols, w), nil
	}
	w, err := safetensors.View[uint16](t)
	if err != nil {
		return nil, err
	}
	if t.DType == safetensors.BF16 {
		return kernel.PackBF16(rows, cols, w), nil
	}
	return kernel.PackF16(rows, cols, w), nil
}
