package artifact

import (
	"fmt"
	"slices"

	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// TensorFinder finds the tensors of a model in its checkpoint or artifact, and keeps track of
// those that were found, so that none is ignored without notice. Its errors are of kind
// [fault.Input] and name the file and the tensor.
type TensorFinder struct {
	dir   string
	ckpt  *safetensors.Checkpoint
	cfg   *model.Config
	found map[string]bool
	forms map[string]Form // of matrices on a grid, by the name of the weight
}

// NewTensorFinder returns a finder for the model of this config in ckpt, which was opened
// from dir.
func NewTensorFinder(dir string, ckpt *safetensors.Checkpoint, cfg *model.Config) *TensorFinder {
	f := &TensorFinder{dir: dir, ckpt: ckpt, cfg: cfg, found: map[string]bool{}, forms: map[string]Form{}}
	for _, name := range ckpt.Names() {
		if weight, form := splitForm(name); form.OnGrid() {
			f.forms[weight] = form
		}
	}
	return f
}

// Grid returns the grid of a stored matrix that is on one but no palette.
func (f *TensorFinder) Grid(name string) (grid.Grid, bool) {
	scales := safetensors.F16
	if t, ok := f.ckpt.Tensor(name + suffixScales); ok {
		scales = t.DType
	}
	return f.forms[name].Grid(scales)
}

// Names returns the names under which the tensor of this canonical name is stored, in the
// order in which they count: its own, then its aliases (a tied embedding may be stored as
// the head, or twice). A palettized or 8-bit matrix counts as stored under the name without
// suffix. The result is the canonical name where the tensor is missing.
func (f *TensorFinder) Names(canonical string) []string {
	var names []string
	for _, name := range append([]string{canonical}, f.cfg.Aliases(canonical)...) {
		for _, suffix := range []string{"", SuffixIndices, SuffixInt8} {
			if f.Has(name + suffix) {
				names = append(names, name)
				break
			}
		}
	}
	if len(names) == 0 {
		return []string{canonical}
	}
	return names
}

// Has reports whether a tensor of this name is stored.
func (f *TensorFinder) Has(name string) bool {
	_, ok := f.ckpt.Tensor(name)
	return ok
}

// Shape returns the shape of the stored tensor of this name.
func (f *TensorFinder) Shape(name string) (shape []int, ok bool) {
	t, ok := f.ckpt.Tensor(name)
	if !ok {
		return nil, false
	}
	return t.Shape, true
}

// Tensor returns the stored tensor of this name, which must have the shape and one of the
// types.
func (f *TensorFinder) Tensor(name string, shape []int, types ...safetensors.DType) (*safetensors.Tensor, error) {
	t, ok := f.ckpt.Tensor(name)
	if !ok {
		return nil, fault.Inputf(f.dir, "tensor %q is missing", name)
	}
	if !slices.Equal(t.Shape, shape) {
		return nil, fault.Inputf(t.Path(), "tensor %q has shape %v; %s requires %v", name, t.Shape, ConfigFile, shape)
	}
	if !slices.Contains(types, t.DType) {
		return nil, fault.Inputf(t.Path(), "tensor %q is %s; expected %s", name, t.DType, safetensors.DTypeNames(types))
	}
	f.found[name] = true
	return t, nil
}

// Dense returns a tensor that is stored as F16, BF16 or F32, and its further copies under
// other names, which a caller must compare.
func (f *TensorFinder) Dense(spec model.TensorSpec) (t *safetensors.Tensor, copies []*safetensors.Tensor, err error) {
	types := safetensors.FloatTypes()
	for _, name := range f.Names(spec.Name) {
		x, err := f.Tensor(name, spec.Shape, types...)
		if err != nil {
			return nil, nil, err
		}
		if t == nil {
			t = x
			continue
		}
		copies = append(copies, x)
	}
	return t, copies, nil
}

// CheckUnused returns an error if the checkpoint stores a tensor that was not found and is
// not computed from config.json: the config then describes another model.
func (f *TensorFinder) CheckUnused() error {
	var unused []string
	for _, name := range f.ckpt.Names() {
		if !f.found[name] && !f.cfg.Ignorable(name) {
			unused = append(unused, name)
		}
	}
	if len(unused) == 0 {
		return nil
	}
	slices.Sort(unused)
	more := ""
	if len(unused) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(unused)-1)
	}
	t, _ := f.ckpt.Tensor(unused[0])
	return fault.Inputf(t.Path(), "tensor %q%s is not part of the %s model that %s describes", unused[0], more, f.cfg.ModelType, ConfigFile)
}
