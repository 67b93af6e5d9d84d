package sensitivity

import (
	"context"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// scorer holds what all estimators need: the model, its modules, the text and the palettes'
// parameters.
type scorer struct {
	pool    *compute.Pool // in float32
	models  *compute.Pool // the same workers, in the arithmetic of the model's products
	ckpt    *safetensors.Checkpoint
	model   *infer.Model // the 16-bit model; nil if no text is needed
	text    *Calibration // nil if none is needed
	bits    []int
	group   int  // rows that share a look-up table
	scaled  bool // palettes have row scales
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

// widthWork returns the work of palettizing a module to one width.
func (s *scorer) widthWork(m *module, bits int) int64 {
	return palettize.Work(int(m.weights()), palettize.Options{Bits: bits, NoRowScale: !s.scaled})
}

// palettizeWork returns the work of palettizing a module to all widths.
func (s *scorer) palettizeWork(m *module) (n int64) {
	for _, bits := range s.bits {
		n += s.widthWork(m, bits)
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

// palettize returns the palettes of a module at a width, and their error.
func (s *scorer) palettize(m *module, bits int) (*palettize.Matrix, palettize.Report, error) {
	var pm *palettize.Matrix
	var report palettize.Report
	err := safetensors.Guard(m.src.Path(), func() (err error) {
		src, err := artifact.PaletteSource(m.src)
		if err != nil {
			return err
		}
		pm, report, err = palettize.Palettize(s.pool, src, m.spec.Shape[0], m.spec.Shape[1],
			palettize.Options{Bits: bits, GroupRows: s.group, NoRowScale: !s.scaled})
		return err
	})
	m.src.Release()
	if err != nil && fault.KindOf(err) == fault.Unexpected {
		err = fault.Inputf(m.src.Path(), "tensor %q: %v", m.src.Name, err)
	}
	return pm, report, err
}

// pack returns the palettes in the form in which the engine multiplies with them.
func pack(m *palettize.Matrix) *compute.Matrix {
	return compute.PackLUT(m.Rows, m.Cols, m.Bits, m.GroupRows, m.Indices, m.LUT, m.RowScale)
}

// packAll packs the palettes of every module at every width, [module][option].
func (s *scorer) packAll(ctx context.Context) ([][]*compute.Matrix, error) {
	work := int64(0)
	for i := range s.modules {
		work += s.palettizeWork(&s.modules[i])
	}
	s.progress.Stage(progress.Stage{Name: StagePalettize, Work: work})
	defer s.progress.Done()
	out := make([][]*compute.Matrix, len(s.modules))
	for i := range s.modules {
		for _, bits := range s.bits {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			m, _, err := s.palettize(&s.modules[i], bits)
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], pack(m))
			s.progress.Advance(s.widthWork(&s.modules[i], bits))
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
func notFinite(m *module, bits int, v float64) error {
	return fault.Inputf(m.src.Path(), "tensor %q: its score at %d bits is %v; weights or activations overflow", m.src.Name, bits, v)
}
