package sensitivity

import (
	"context"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// scorer holds what all estimators need: the model, its modules, the text and how
// modules are stored.
type scorer struct {
	pool    *compute.Pool // in float32
	models  *compute.Pool // the same workers, in the arithmetic of the model's products
	ckpt    *safetensors.Checkpoint
	cfg     *model.Config
	text    *Calibration // nil if none is needed
	widths  []Width      // to score; of a module see width
	group   int          // rows that share a look-up table
	scaled  bool         // palettes have row scales
	seed    int64
	samples int
	modules []module
	index   map[layerKind]int // into modules

	progress progress.Reporter

	textRun // only if text is needed
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

// weights returns the number of weights of the module.
func (m *module) weights() int64 { return int64(m.spec.Shape[0]) * int64(m.spec.Shape[1]) }

// width returns how a module is stored under an option: as the option says where its columns allow
// that.
func (s *scorer) width(m *module, option int) Width {
	return fitColumns(s.widths[option], m.spec.Shape[1])
}

// grid returns the grid of a width of a module; false if it stays unquantized.
func (s *scorer) grid(m *module, w Width) (grid.Grid, bool) {
	if w.Form == artifact.Palette {
		return grid.Palette{Bits: w.Bits, GroupRows: s.group, RowScale: s.scaled}, true
	}
	return w.Form.Grid(artifact.ScaleType(m.src.DType))
}

// widthWork returns the work of quantizing a module under one option.
func (s *scorer) widthWork(m *module, option int) int64 {
	g, ok := s.grid(m, s.width(m, option))
	if !ok {
		return 0
	}
	return g.QuantizeWork(m.spec.Shape[0], m.spec.Shape[1])
}

// quantizeWork returns the work of quantizing a module under all options.
func (s *scorer) quantizeWork(m *module) (n int64) {
	for o := range s.widths {
		n += s.widthWork(m, o)
	}
	return n
}

// findModules lists the projections of the model, in canonical order, with their tensors.
func (s *scorer) findModules(cfg *model.Config, dir string) error {
	s.index = map[layerKind]int{}
	for _, spec := range cfg.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		t, ok := s.ckpt.Tensor(spec.Name)
		if !ok {
			return fault.Inputf(dir, "tensor %q is missing", spec.Name)
		}
		s.index[layerKind{spec.Layer, spec.Kind}] = len(s.modules)
		s.modules = append(s.modules, module{spec, t})
	}
	return nil
}

// quantize returns a module under an option, in the form in which the engine multiplies with it, and
// its squared error.
func (s *scorer) quantize(m *module, option int) (packed *compute.Matrix, squaredError float64, err error) {
	rows, cols := m.spec.Shape[0], m.spec.Shape[1]
	err = safetensors.Guard(m.src.Path(), func() error {
		g, ok := s.grid(m, s.width(m, option))
		if !ok {
			packed, err = infer.PackFloats(m.src)
			return err
		}
		src, err := artifact.PaletteSource(m.src)
		if err != nil {
			return err
		}
		data, report, err := g.Quantize(s.pool, src, rows, cols, nil)
		if err != nil {
			return err
		}
		squaredError = report.SquaredError
		packed, err = infer.PackGrid(g, data, rows, cols)
		return err
	})
	m.src.Release()
	if err != nil && fault.KindOf(err) == fault.Unexpected {
		err = fault.Inputf(m.src.Path(), "tensor %q: %v", m.src.Name, err)
	}
	return packed, squaredError, err
}

// quantizeAll quantizes a module under some options.
func (s *scorer) quantizeAll(ctx context.Context, m *module, options []int) (out []*compute.Matrix, err error) {
	for k, o := range options {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var packed *compute.Matrix
		if k > 0 && s.width(m, o) == s.width(m, options[k-1]) {
			packed = out[k-1]
		} else if packed, _, err = s.quantize(m, o); err != nil {
			return nil, err
		}
		out = append(out, packed)
		s.progress.Advance(s.widthWork(m, o))
	}
	return out, nil
}

// packedBytes returns about how many bytes a module takes in memory under an option.
func (s *scorer) packedBytes(m *module, option int) int64 {
	if w := s.width(m, option); w.Form == artifact.Palette {
		return m.weights()*int64(w.Bits)/8 + 64*m.weights()/int64(s.group)/int64(m.spec.Shape[1])<<max(w.Bits-4, 0)
	}
	return 4 * m.weights() // in float32
}

// notFinite reports a score that is NaN or infinite: the model overflows on the text.
func notFinite(m *module, w Width, v float64) error {
	return fault.Inputf(m.src.Path(), "tensor %q: its score at %v is %v; weights or activations overflow", m.src.Name, w, v)
}
