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
	widths  []Width      // of projections, to score; of a module see width
	ends    []Width      // of embedding and head; nil if they are not scored
	group   int          // rows that share a look-up table
	scaled  bool         // palettes have row scales
	seed    int64
	samples int
	method  Method
	memory  int64 // see Options
	// validated is the number of modules whose divergence is measured in addition.
	validated int
	modules   []module
	index     map[layerKind]int // into modules

	progress progress.Reporter

	textRun // only if text is needed
}

// module is one projection of the model, its embedding or its head.
type module struct {
	spec model.TensorSpec
	src  *safetensors.Tensor
	end  bool // embedding or head
}

// endLayer is the layer of embedding and head.
const endLayer = -1

type layerKind struct {
	layer int
	kind  string
}

func (m *module) name() string { return m.spec.Module() }

// weights returns the number of weights of the module.
func (m *module) weights() int64 { return int64(m.spec.Shape[0]) * int64(m.spec.Shape[1]) }

// options returns the widths of a module that are scored.
func (s *scorer) options(m *module) []Width {
	if m.end {
		return s.ends
	}
	return s.widths
}

// width returns how a module is stored under an option: as the option says where its columns allow
// that.
func (s *scorer) width(m *module, option int) Width {
	return fitColumns(s.options(m)[option], m.spec.Shape[1])
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
	for o := range s.options(m) {
		n += s.widthWork(m, o)
	}
	return n
}

// findModules lists the projections of the model, in canonical order, with their tensors, and after
// them embedding and head if they are scored.
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
		s.modules = append(s.modules, module{spec: spec, src: t})
	}
	for _, spec := range cfg.Tensors() {
		if len(s.ends) == 0 || !isEnd(spec) {
			continue
		}
		t, ok := s.ckpt.Tensor(spec.Name)
		for _, alias := range cfg.Aliases(spec.Name) {
			if !ok {
				t, ok = s.ckpt.Tensor(alias)
			}
		}
		if !ok {
			return fault.Inputf(dir, "tensor %q is missing", spec.Name)
		}
		s.modules = append(s.modules, module{spec: spec, src: t, end: true})
	}
	return nil
}

// quantize returns a module under an option, in the form in which the engine multiplies with it, and
// its squared error.
func (s *scorer) quantize(m *module, option int) (packed *compute.Matrix, squaredError float64, err error) {
	rows, cols := m.spec.Shape[0], m.spec.Shape[1]
	err = safetensors.Guard(m.src.Path(), func() error {
		if s.width(m, option).Form == artifact.RowInt8 {
			packed, squaredError, err = s.int8Rows(m)
			return err
		}
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

// int8Rows returns a matrix as rows of int8, and its squared error.
func (s *scorer) int8Rows(m *module) (*compute.Matrix, float64, error) {
	q, scale, squaredError, _, err := artifact.QuantizeRows(s.pool, m.src)
	if err != nil {
		return nil, 0, err
	}
	values := make([]int8, len(q))
	for i, v := range q {
		values[i] = int8(v)
	}
	return compute.PackInt8(m.spec.Shape[0], m.spec.Shape[1], values, scale), squaredError, nil
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
	if s.width(m, option).Form == artifact.RowInt8 {
		return m.weights()
	}
	return 4 * m.weights() // in float32
}

// notFinite reports a score that is NaN or infinite: the model overflows on the text.
func notFinite(m *module, w Width, v float64) error {
	return fault.Inputf(m.src.Path(), "tensor %q: its score at %v is %v; weights or activations overflow", m.src.Name, w, v)
}
