package sensitivity

import (
	"context"
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// scorer is what all estimators work with.
type scorer struct {
	pool    *compute.Pool
	models  *compute.Pool // the same workers, with the arithmetic that the model runs in
	ckpt    *safetensors.Checkpoint
	model   *infer.Model // the 16-bit model; nil where no text is needed
	text    *Calibration // nil where none is needed
	bits    []int
	group   int
	scaled  bool // palettes have row scales
	seed    int64
	samples int
	modules []module
	byKey   map[layerKind]int
}

// module is one projection of the model.
type module struct {
	spec model.TensorSpec
	src  *safetensors.Tensor
}

type layerKind struct {
	layer int
	kind  string
}

func (m *module) name() string { return m.spec.Module() }

// findModules lists the projections of the model with their tensors.
func (w *scorer) findModules(cfg *model.Config) error {
	w.byKey = map[layerKind]int{}
	for _, spec := range cfg.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		t, ok := w.ckpt.Tensor(spec.Name)
		if !ok {
			return fault.Inputf("", "tensor %q is missing", spec.Name)
		}
		w.byKey[layerKind{spec.Layer, spec.Kind}] = len(w.modules)
		w.modules = append(w.modules, module{spec, t})
	}
	return nil
}

// palettize returns a module's palette at a width with what it lost.
func (w *scorer) palettize(m *module, bits int) (*palettize.Matrix, palettize.Report, error) {
	var pm *palettize.Matrix
	var report palettize.Report
	err := safetensors.Guard(m.src.Path(), func() (err error) {
		src, err := artifact.PaletteSource(m.src)
		if err != nil {
			return err
		}
		pm, report, err = palettize.Palettize(w.pool, src, m.spec.Shape[0], m.spec.Shape[1],
			palettize.Options{Bits: bits, GroupRows: w.group, RowScale: w.scaled})
		return err
	})
	m.src.Release()
	if err != nil && fault.KindOf(err) == fault.Unexpected {
		err = fault.Inputf(m.src.Path(), "tensor %q: %v", m.src.Name, err)
	}
	return pm, report, err
}

// pack returns the palette as the engine multiplies with it.
func pack(m *palettize.Matrix) *compute.Matrix {
	return compute.PackLUT(m.Rows, m.Cols, m.Bits, m.GroupRows, m.Indices, m.LUT, m.RowScale)
}

// packAll packs the palettes of every module at every width, [module][option].
func (w *scorer) packAll(ctx context.Context) ([][]*compute.Matrix, error) {
	out := make([][]*compute.Matrix, len(w.modules))
	for i := range w.modules {
		for _, bits := range w.bits {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			m, _, err := w.palettize(&w.modules[i], bits)
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], pack(m))
		}
	}
	return out, nil
}

// batches groups sequences so that each batch has at most limit tokens or one sequence.
func batches(sequences [][]int32, limit int) [][][]int32 {
	var out [][][]int32
	for first, end := range infer.Batches(len(sequences), limit, func(i int) int { return len(sequences[i]) }) {
		out = append(out, sequences[first:end])
	}
	return out
}

func countTokens(sequences [][]int32) int {
	n := 0
	for _, s := range sequences {
		n += len(s)
	}
	return n
}

// notFinite reports a score that is no number: the model overflows on the text.
func notFinite(m *module, bits int, v float64) error {
	return fault.Inputf(m.src.Path(), "tensor %q: its score at %d bits is %v; weights or activations overflow", m.src.Name, bits, fmt.Sprint(v))
}
