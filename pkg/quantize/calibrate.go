package quantize

import (
	"context"
	"fmt"

	"afmq/internal/kernel"
	"afmq/internal/memory"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/gptq"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// calibrator runs the calibration text through the model while it is quantized, so that each
// module receives the outputs of the quantized modules before it. The 16-bit model runs the
// same text in parallel; the difference of the two lets a module compensate the change of
// its input and of the residual stream. It holds the weights of one layer of each model.
type calibrator struct {
	pool      *compute.Pool
	text      *sensitivity.Calibration
	states    *memory.Store  // of hidden states
	runs      map[string]int // columns that stay together in the order of quantization, by input
	quantized side
	original  side
	input     string // the input that moments and drift belong to; see inputOf
	moments   moments
	walked    int       // layers whose walk has been reported
	layerDone func()    // reports the walk of the text through one layer
	drift     []float32 // Σ r·xᵀ [outputs, n], r the change of the residual stream; nil except for o and down
}

// side is one of the two models and the position of the text in it.
type side struct {
	model   *infer.Model
	walk    *infer.Walk
	compute compute.Arithmetic
}

// moments are statistics of one input of n columns: x in the quantized model, y in the
// original.
type moments struct {
	factor *gptq.Factor    // of Σ x·xᵀ; nil if it cannot be factored
	reason error           // why factor is nil
	shift  *compute.Matrix // Σ x·(y-x)ᵀ [n, n]
}

// newCalibrator returns a calibrator before the first layer; runs are those of
// gptq.NewFactor by input.
func newCalibrator(pool *compute.Pool, compute compute.Arithmetic, cfg *model.Config, text *sensitivity.Calibration, states *memory.Store, runs map[string]int, layerDone func()) *calibrator {
	newSide := func() side {
		return side{model: &infer.Model{Config: cfg, Blocks: make([]infer.Block, cfg.Layers)}, compute: compute}
	}
	return &calibrator{pool: pool, text: text, states: states, runs: runs, layerDone: layerDone, quantized: newSide(), original: newSide()}
}

// advance moves the text to the input of a layer; -1 means the output of the last one.
func (s *side) advance(pool *compute.Pool, text *sensitivity.Calibration, states *memory.Store, layer int) (err error) {
	if layer < 0 {
		layer = s.model.Config.Layers
	}
	if s.walk == nil {
		if s.walk, err = s.model.NewWalk(text.Sequences, infer.WalkOptions{Pool: pool.With(s.compute), Memory: states, Steps: true}); err != nil {
			return err
		}
		s.model.Embedding, s.model.Head = nil, nil
	}
	for s.walk.Layer() < layer {
		s.walk.Advance()
		s.model.Blocks[s.walk.Layer()-1] = infer.Block{}
	}
	return nil
}

// batchInput returns the input of a projection or a head for a batch, [tokens, columns].
func (s *side) batchInput(spec model.TensorSpec, batch int) []float32 {
	if spec.Role == model.Head {
		return s.walk.Final(batch)
	}
	return s.walk.Input(spec.Kind, batch)
}

// inputOf names the input of a module; modules with the same input share moments.
func inputOf(spec model.TensorSpec) string {
	switch spec.Kind {
	case "k_proj", "v_proj":
		return fmt.Sprintf("%d.q_proj", spec.Layer)
	case "up_proj":
		return fmt.Sprintf("%d.gate_proj", spec.Layer)
	}
	return fmt.Sprintf("%d.%s", spec.Layer, spec.Kind)
}

// shiftShare is the fraction of the weight adjustment that is applied. The adjustment is
// estimated from the calibration text and partly fits its noise. On a model of 11 M
// parameters and 16 k tokens, fractions from 0.5 to 1 give about the same result.
const shiftShare = 0.7

// accumulate computes the moments of the input of a projection or a head. All tensors before
// it in the order of the forward pass must be installed.
func (c *calibrator) accumulate(ctx context.Context, spec model.TensorSpec) error {
	input := inputOf(spec)
	if input == c.input {
		return nil
	}
	c.input, c.moments, c.drift = "", moments{}, nil
	out, n := spec.Shape[0], spec.Shape[1]
	h, shift := make([]float32, n*n), make([]float32, n*n)
	if residual(c.quantized.model.Config, spec) {
		c.drift = make([]float32, out*n)
	}
	if err := c.enter(spec.Layer); err != nil {
		return err
	}
	for b := range c.quantized.walk.Batches() {
		if err := ctx.Err(); err != nil {
			return err
		}
		tokens := c.quantized.walk.Tokens(b)
		x := c.quantized.batchInput(spec, b)
		c.pool.AddGram(h, x, tokens, n)
		c.pool.AddCross(shift, x, minus(c.original.batchInput(spec, b), x), tokens, n, n)
		if c.drift != nil {
			r := minus(c.original.walk.Hidden(b), c.quantized.walk.Hidden(b))
			if s := c.quantized.model.Config.Scales.Residual; s != 0 {
				kernel.Scale(r, float32(1/s)) // the output is scaled before it is added
			}
			c.pool.AddCross(c.drift, r, x, tokens, out, n)
		}
	}
	kernel.Symmetrize(h, n)
	c.moments.shift = c.pool.PackF32(n, n, shift)
	c.moments.factor, c.moments.reason = gptq.NewFactor(c.pool, h, n, gptq.Damping(n, c.text.Tokens()), max(c.runs[input], 1))
	c.input = input
	return nil
}

// enter moves both models to a layer; -1 means the output of the last one. The layers before it must
// be installed; they are dropped.
func (c *calibrator) enter(layer int) error {
	if err := c.quantized.advance(c.pool, c.text, c.states, layer); err != nil {
		return err
	}
	if err := c.original.advance(c.pool, c.text, c.states, layer); err != nil {
		return err
	}
	for ; c.walked <= layer; c.walked++ {
		c.layerDone()
	}
	return nil
}

// minus returns a - b, element by element.
func minus(a, b []float32) []float32 {
	d := make([]float32, len(b))
	for i := range d {
		d[i] = a[i] - b[i]
	}
	return d
}

// target returns the adjusted weights [rows, columns] of a module: those for which its output
// on the input x of the quantized model, added to the quantized residual stream, is closest
// to that of the original on y. They are W + share·(W·Σ(y-x)xᵀ + Σ r·xᵀ)·(Σ x·xᵀ)⁻¹, where r
// is the original residual stream minus the quantized one.
func (c *calibrator) target(it *item) ([]float32, error) {
	rows, cols := it.Spec.Shape[0], it.Spec.Shape[1]
	w, m := make([]float32, rows*cols), make([]float32, rows*cols)
	// Check first: NaN or Inf would spread over its row and be reported at another position.
	if err := it.Tensor.CheckFinite(); err != nil {
		return nil, err
	}
	if err := it.Tensor.Float32(w, 0); err != nil {
		return nil, err
	}
	c.pool.MulT(m, w, rows, c.moments.shift)
	if c.drift != nil {
		kernel.Add(m, c.drift)
	}
	c.moments.factor.Solve(c.pool, m, rows)
	kernel.AddScaled(w, m, shiftShare)
	return w, nil
}

// install sets a finished tensor in both models: as the artifact stores it in the quantized
// one, as the checkpoint stores it in the original.
func (c *calibrator) install(j *job, it *item, data [][]byte) error {
	if it.Spec.Role == model.Head { // nothing comes after it
		return nil
	}
	if err := it.setSource(c.original.model); err != nil {
		return err
	}
	if len(it.Spec.Shape) == 1 || it.Form == artifact.Plain {
		return it.setSource(c.quantized.model)
	}
	w, err := j.pack(it, data)
	if err == nil {
		c.quantized.model.SetMatrix(it.Spec, w)
	}
	return err
}

// setSource sets a tensor of a model as the checkpoint stores it.
func (it *item) setSource(m *infer.Model) error {
	return safetensors.Guard(it.Tensor.Path(), func() error {
		if len(it.Spec.Shape) == 1 {
			v := make([]float32, it.Spec.Shape[0])
			err := it.Tensor.Float32(v, 0)
			m.SetVector(it.Spec, v)
			return err
		}
		w, err := infer.PackFloats(it.Tensor)
		if err == nil {
			m.SetMatrix(it.Spec, w)
		}
		return err
	})
}

// pack packs a quantized matrix from its stored form.
func (j *job) pack(it *item, data [][]byte) (*compute.Matrix, error) {
	rows, cols := it.Spec.Shape[0], it.Spec.Shape[1]
	if it.Form == artifact.RowInt8 {
		return compute.PackInt8(rows, cols, bytesInt8(data[0]), bytesFloat32(data[1])), nil
	}
	g, _ := j.grid(it)
	return infer.PackGrid(g, data, rows, cols)
}
