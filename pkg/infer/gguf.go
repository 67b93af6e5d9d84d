package infer

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
	"afmq/pkg/progress"
)

// openGGUF reads the GGUF file at path into memory.
func openGGUF(ctx context.Context, path string, opts OpenOptions) (*Model, error) {
	g, err := ggufmodel.Open(path)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	m := &Model{Dir: path, Config: g.Config, Blocks: make([]Block, g.Config.Layers)}
	if m.Tokenizer, err = g.Tokenizer(); err != nil {
		return nil, err
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	work := int64(0)
	for _, t := range g.Tensors {
		work += t.Stored.Bytes()
	}
	p := progress.Begin(opts.Progress, StageLoad)
	p.Stage(progress.Stage{Name: StageLoad, Work: work})
	defer p.Done()
	errs := make([]error, len(g.Tensors))
	pool.Run(len(g.Tensors), func(_, i int) {
		t := &g.Tensors[i]
		if errs[i] = ctx.Err(); errs[i] == nil {
			errs[i] = m.loadGGUF(t)
		}
		if errs[i] == nil {
			p.Advance(t.Stored.Bytes())
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	if m.Head == nil {
		m.Head = m.Embedding
	}
	return m, g.File.Check()
}

// loadGGUF reads one tensor and packs it.
func (m *Model) loadGGUF(t *ggufmodel.Tensor) error {
	if t.Spec.Role == model.Norm || t.Spec.Role == model.Bias {
		v, err := t.Vector()
		if err != nil {
			return err
		}
		for i, x := range v {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return fault.Inputf(t.Path(), "tensor %q holds %v at index %d", t.Name(), x, i)
			}
		}
		m.SetVector(t.Spec, v)
		return nil
	}
	pack := packRows
	if kind := t.Stored.Type; kind == ggml.F16 || kind == ggml.BF16 {
		pack = packHalves
	}
	w, err := pack(t)
	if err != nil {
		return err
	}
	m.SetMatrix(t.Spec, w)
	return nil
}

// packRows packs a matrix as the float32 values that its blocks stand for.
func packRows(t *ggufmodel.Tensor) (*compute.Matrix, error) {
	cols, size := t.Spec.Shape[1], t.Stored.RowBytes()
	var buf []byte
	return compute.PackF32Rows(t.Spec.Shape[0], cols, func(w []float32, r0, r1 int) error {
		if n := (r1 - r0) * size; cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:(r1-r0)*size]
		if err := t.ReadRows(buf, r0); err != nil {
			return err
		}
		if err := t.Stored.Type.Dequantize(w, buf); err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name(), err)
		}
		for i, v := range w {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fault.Inputf(t.Path(), "tensor %q holds %v in row %d, column %d", t.Name(), v, r0+i/cols, i%cols)
			}
		}
		return nil
	})
}

// packHalves packs a matrix of F16 or BF16 in its stored type.
func packHalves(t *ggufmodel.Tensor) (*compute.Matrix, error) {
	rows, cols := t.Spec.Shape[0], t.Spec.Shape[1]
	data := make([]byte, t.Stored.Bytes())
	if err := t.ReadRows(data, 0); err != nil {
		return nil, err
	}
	half := t.Stored.Type == ggml.F16
	exponent := uint16(0x7f80) // all of its bits are set in infinities and NaN
	if half {
		exponent = 0x7c00
	}
	w := make([]uint16, rows*cols)
	for i := range w {
		w[i] = binary.LittleEndian.Uint16(data[2*i:])
		if w[i]&exponent == exponent {
			return nil, fault.Inputf(t.Path(), "tensor %q holds a value that is not finite in row %d, column %d", t.Name(), i/cols, i%cols)
		}
	}
	if half {
		return compute.PackF16(rows, cols, w), nil
	}
	return compute.PackBF16(rows, cols, w), nil
}
