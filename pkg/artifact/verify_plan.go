package artifact

import (
	"path/filepath"

	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// checkPlan computes bits per weight and the plan's entry for every matrix from the tensors,
// and compares them with the manifest.
func (a *Reader) checkPlan() error {
	path := filepath.Join(a.Dir, ManifestFile)
	if bpw := MeasureBits(a.Layout); bpw.Projections != a.Manifest.BPW.Projections || bpw.Model != a.Manifest.BPW.Model || a.Manifest.BPW.WithAdapter != nil {
		return fault.Inputf(path, "bpw does not match the tensors, which take %v bits per weight in projections and %v in the model", bpw.Projections, bpw.Model)
	}
	var exceptions []ModuleBits
	modules := a.Manifest.Plan.Modules
	for i := range a.Layout {
		st := &a.Layout[i]
		if len(st.Spec.Shape) != 2 {
			continue
		}
		got := NewModuleRecord(st, 0)
		if len(modules) == 0 {
			return fault.Inputf(path, "plan does not list module %q", got.Name)
		}
		want := modules[0]
		modules = modules[1:]
		if a.Manifest.Plan.Compensation == NoCompensation && (want.OutputError != 0 || want.Warning != "") {
			return fault.Inputf(path, "plan has an output error or a warning for module %q, although its compensation is %q", got.Name, NoCompensation)
		}
		// These cannot be computed without the source and the calibration text.
		want.RelError, want.OutputError, want.Warning = 0, 0, ""
		if got != want {
			return fault.Inputf(path, "plan says %+v; the tensors have %+v", want, got)
		}
		if st.Form == Palette && (len(st.Names) == 3) != a.Manifest.Plan.RowScale {
			return fault.Inputf(path, "plan has row_scale %v; the tensors of module %q do not match", a.Manifest.Plan.RowScale, got.Name)
		}
		if e, ok := Exception(st.Spec.Role, st.Form, st.Bits, a.Manifest.Plan.Bits); ok {
			exceptions = append(exceptions, ModuleBits{got.Name, e})
		}
	}
	if len(modules) > 0 {
		return fault.Inputf(path, "plan lists module %q, which is not part of the model", modules[0].Name)
	}
	return a.checkExceptions(exceptions)
}

// checkExceptions compares the modules that config.json lists with the tensors.
func (a *Reader) checkExceptions(want []ModuleBits) error {
	path := filepath.Join(a.Dir, ConfigFile)
	listed := a.Config.Quantization.Modules
	for _, e := range want {
		if listed[e.Name] != e.Bits {
			return fault.Inputf(path, "%s: module %q has %d bits in the tensors and %d in the file", quantizationKey, e.Name, e.Bits, listed[e.Name])
		}
	}
	if len(listed) != len(want) {
		return fault.Inputf(path, "%s lists %d exceptions; the tensors have %d", quantizationKey, len(listed), len(want))
	}
	return nil
}

// NewModuleRecord returns the plan's entry for one stored matrix.
func NewModuleRecord(st *StoredTensor, relError float64) ModuleRecord {
	return ModuleRecord{Name: st.Spec.Module(), Form: st.Form, Bits: st.Bits, Bytes: st.Bytes, RelError: relError}
}

// Exception reports whether a matrix differs from the default for its role, and the width
// that config.json lists for it. The default is a palette of defaultBits for a projection
// and int8 rows for embedding and head; another grid of as many bits counts as the palette.
func Exception(role model.Role, form Form, bits, defaultBits int) (int, bool) {
	switch {
	case form == Plain:
		return KeepBits, true
	case role == model.Projection:
		return bits, bits != defaultBits
	}
	return bits, form == Palette || form.OnGrid()
}
