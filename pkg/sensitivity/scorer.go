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
	model   *infer.Model // the 16-bit model; nil if no text is needed
	text    *Calibration // nil if none is needed
	widths  []Width      // to score; of a module see width
	group   int          // rows that share a look-up table
	scaled  bool         // palettes have row scales
	seed    int64
	samples int
	modules []module
	index   map[layerKind]int // into modules

	progress progress.Reporter
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

// packAll packs every module under every option, [module][option].
func (s *scorer) packAll(ctx context.Context) ([][]*compute.Matrix, error) {
	work := int64(0)
	for i := range s.modules {
		work += s.quantizeWork(&s.modules[i])
	}
	s.progress.Stage(progress.Stage{Name: StageQuantize, Work: work})
	defer s.progress.Done()
	out := make([][]*compute.Matrix, len(s.modules))
	for i := range s.modules {
		m := &s.modules[i]
		for o := range s.widths {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if o > 0 && s.width(m, o) == s.width(m, o-1) {
				out[i] = append(out[i], out[i][o-1])
				s.progress.Advance(s.widthWork(m, o))
				continue
			}
			packed, _, err := s.quantize(m, o)
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], packed)
			s.progress.Advance(s.widthWork(m, o))
		}
	}
	return out, nil
}

// batches groups sequences into batches of at most limit tokens, or of one sequence.
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

// notFinite reports a score that is NaN or infinite: the model overflows on the text.
func notFinite(m *module, w Width, v float64) error {
	return fault.Inputf(m.src.Path(), "tensor %q: its score at %v is %v; weights or activations overflow", m.src.Name, w, v)
}
