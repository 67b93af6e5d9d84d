package artifact

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// Verification is what Verify found in an intact artifact.
type Verification struct {
	ContentHash string        // hex; what an adapter is bound to
	ToolVersion string        // of the program that wrote it
	Files       int           // in the directory, the manifest and its digest included
	Tensors     int           // in model.safetensors
	Bytes       int64         // of all files
	BPW         BitsPerWeight // derived again from the tensors
	Ledger      Ledger        // derived again from the tensors
}

// Verify reads every byte of the artifact in dir and returns an error, of kind
// fault.Input and naming the file or the tensor, if any differs from what
// manifest.json says, if a file is missing or there is one more, or if what the
// manifest says does not follow from the tensors: the ledger, the bits per
// weight, the form of each matrix, the content hash, config.json's account of
// the plan. Look-up tables and scales must be finite, tables ascend, and indices leave no
// stray bits.
//
// It proves that an artifact is whole and consistent, not who made it: someone
// who rewrites the manifest too can make a consistent artifact of anything.
func Verify(ctx context.Context, pool *compute.Pool, dir string, p progress.Reporter) (*Verification, error) {
	if p == nil {
		p = progress.Silent
	}
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	manifestPath := filepath.Join(dir, ManifestFile)
	a, total, err := open(dir, m)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	p.Stage("verify", total+m.Ledger.Total-m.Ledger.Container, "B") // every file, and every tensor once more
	defer p.Done()

	if err := a.CheckTensors(ctx, pool, p); err != nil {
		return nil, err
	}
	if err := a.checkPlan(); err != nil {
		return nil, err
	}
	for _, want := range m.Files {
		path := filepath.Join(dir, want.Name)
		got, err := HashFile(ctx, path, want.Name, p.Advance)
		if err != nil {
			return nil, err
		}
		if got != want {
			return nil, fault.Inputf(path, "differs from what %s says: SHA-256 is %s, not %s", ManifestFile, got.SHA256, want.SHA256)
		}
	}
	if _, err := model.OpenTokenizer(dir, a.Config); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(m.Files, func(f FileDigest) bool { return f.Name == TokenizerFile })
	if i < 0 || m.Files[i].SHA256 != m.Tokenizer {
		return nil, fault.Inputf(manifestPath, "the tokenizer's digest is not that of %s", TokenizerFile)
	}
	v := &Verification{
		ContentHash: m.ContentHash, ToolVersion: m.ToolVersion,
		Files: len(m.Files) + 2, Tensors: len(m.Tensors),
		BPW: m.BPW, Ledger: m.Ledger, Bytes: total,
	}
	for _, name := range []string{ManifestFile, ManifestDigestFile} {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil {
			v.Bytes += st.Size()
		}
	}
	return v, nil
}

// CheckTensors holds the data of every tensor against its digest and looks for
// values that no writer of ours writes.
func (a *Reader) CheckTensors(ctx context.Context, pool *compute.Pool, p progress.Reporter) error {
	errs := make([]error, len(a.Layout))
	pool.Run(len(a.Layout), func(_, i int) {
		if errs[i] = ctx.Err(); errs[i] != nil {
			return
		}
		st := &a.Layout[i]
		if errs[i] = a.checkDigests(ctx, st); errs[i] == nil {
			errs[i] = a.checkValues(st)
		}
		a.Release(st)
		p.Advance(st.Bytes)
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *Reader) checkDigests(ctx context.Context, st *StoredTensor) error {
	for _, name := range st.Names {
		t, _ := a.File.Tensor(name)
		got, err := DigestTensor(ctx, t)
		if err != nil {
			return err
		}
		if want := a.Digests[name]; got.SHA256 != want.SHA256 {
			return fault.Inputf(t.Path(), "tensor %q differs from what %s says: SHA-256 is %s, not %s", name, ManifestFile, got.SHA256, want.SHA256)
		}
	}
	return nil
}

func (a *Reader) checkValues(st *StoredTensor) error {
	t, _ := a.File.Tensor(st.Names[0])
	err := safetensors.Guard(t.Path(), func() error {
		switch st.Form {
		case Palette:
			m, err := a.Palette(st)
			if err != nil {
				return err
			}
			if err := m.Validate(); err != nil {
				return err
			}
			return checkAscending(m)
		case RowInt8:
			q, scale, err := a.Int8(st)
			if err != nil {
				return err
			}
			return checkRows8(q, scale)
		}
		return t.CheckFinite()
	})
	if err != nil && fault.KindOf(err) == fault.Unexpected {
		err = fault.Inputf(t.Path(), "tensor %q: %v", st.Spec.Name, err)
	}
	return err
}

// checkPlan derives ledger, bits per weight and the plan's account of every
// matrix from the tensors.
func (a *Reader) checkPlan() error {
	path := filepath.Join(a.Dir, ManifestFile)
	if bpw := MeasureBits(a.Layout); bpw.Projections != a.Manifest.BPW.Projections || bpw.Model != a.Manifest.BPW.Model || a.Manifest.BPW.WithAdapter != nil {
		return fault.Inputf(path, "bpw is not what the tensors give: %v for projections, %v for the model", bpw.Projections, bpw.Model)
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
			return fault.Inputf(path, "plan says that module %q was compensated, and that none was", got.Name)
		}
		// What cannot be known without the source and the calibration text.
		want.RelError, want.OutputError, want.Warning = 0, 0, ""
		if got != want {
			return fault.Inputf(path, "plan says %+v; the tensors give %+v", want, got)
		}
		if st.Form == Palette && (len(st.Names) == 3) != a.Manifest.Plan.RowScale {
			return fault.Inputf(path, "plan says row_scale %v; module %q is stored otherwise", a.Manifest.Plan.RowScale, got.Name)
		}
		if e, ok := Exception(st.Spec.Role, st.Form, st.Bits, a.Manifest.Plan.Bits); ok {
			exceptions = append(exceptions, ModuleBits{got.Name, e})
		}
	}
	if len(modules) > 0 {
		return fault.Inputf(path, "plan lists module %q, which the model does not have", modules[0].Name)
	}
	return a.checkExceptions(exceptions)
}

// checkExceptions holds config.json's list of modules against the tensors.
func (a *Reader) checkExceptions(want []ModuleBits) error {
	path := filepath.Join(a.Dir, ConfigFile)
	listed := a.Config.Quantization.Modules
	for _, e := range want {
		if listed[e.Name] != e.Bits {
			return fault.Inputf(path, "%s: module %q: the tensors have %d bits, the file says %d", quantizationKey, e.Name, e.Bits, listed[e.Name])
		}
	}
	if len(listed) != len(want) {
		return fault.Inputf(path, "%s lists %d exceptions; the tensors have %d", quantizationKey, len(listed), len(want))
	}
	return nil
}

// NewModuleRecord is the manifest's account of one stored matrix.
func NewModuleRecord(st *StoredTensor, relError float64) ModuleRecord {
	return ModuleRecord{Name: st.Spec.Module(), Form: st.Form, Bits: st.Bits, Bytes: st.Bytes, RelError: relError}
}

// Exception reports whether a matrix departs from the default for its role, and
// the width that config.json then lists. The defaults are palettes of the
// default width for projections and int8 for embedding and head.
func Exception(role model.Role, form Form, bits, defaultBits int) (int, bool) {
	switch {
	case form == Plain:
		return KeepBits, true
	case role == model.Projection:
		return bits, bits != defaultBits
	}
	return bits, form == Palette
}

// checkAscending looks for a look-up table that does not ascend, which no writer of ours
// writes.
func checkAscending(m *palettize.Matrix) error {
	k := 1 << m.Bits
	table := make([]float32, k)
	for g := range m.Groups() {
		kernel.F16ToF32(table, m.LUT[g*k:(g+1)*k])
		if !slices.IsSorted(table) {
			return fmt.Errorf("look-up table %d does not ascend", g)
		}
	}
	return nil
}

// checkRows8 looks for values that quantizeRows never writes.
func checkRows8(q []int8, scale []float32) error {
	for i, x := range q {
		if x == -128 {
			return fmt.Errorf("holds -128 at index %d", i)
		}
	}
	for i, s := range scale {
		if !(s >= 0) || s > maxFloat32 {
			return fmt.Errorf("scale holds %v at index %d", s, i)
		}
	}
	return nil
}

const maxFloat32 = 0x1.fffffep127
