package quantize

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"afmq/internal/fault"
	"afmq/internal/kernel"
	"afmq/internal/progress"
	"afmq/pkg/infer"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// Verification is what Verify found in an intact artifact.
type Verification struct {
	ContentHash string              // hex; what an adapter is bound to
	ToolVersion string              // of the program that wrote it
	Files       int                 // in the directory, the manifest and its digest included
	Tensors     int                 // in model.safetensors
	Bytes       int64               // of all files
	BPW         infer.BitsPerWeight // derived again from the tensors
	Ledger      infer.Ledger        // derived again from the tensors
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
func Verify(ctx context.Context, pool *kernel.Pool, dir string, p progress.Reporter) (*Verification, error) {
	if p == nil {
		p = progress.Silent
	}
	m, err := infer.ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	manifestPath := filepath.Join(dir, infer.ManifestFile)
	total, err := checkDirectory(dir, m)
	if err != nil {
		return nil, err
	}
	p.Stage("verify", total+m.Ledger.Total-m.Ledger.Container, "B") // every file, and every tensor once more
	defer p.Done()

	a, err := openArtifact(dir, m)
	if err != nil {
		return nil, err
	}
	defer a.file.Close()
	if err := a.checkTensors(ctx, pool, p); err != nil {
		return nil, err
	}
	if err := a.checkPlan(); err != nil {
		return nil, err
	}
	for _, want := range m.Files {
		path := filepath.Join(dir, want.Name)
		got, err := hashFile(ctx, path, want.Name, p.Advance)
		if err != nil {
			return nil, err
		}
		if got != want {
			return nil, fault.Inputf(path, "differs from what %s says: SHA-256 is %s, not %s", infer.ManifestFile, got.SHA256, want.SHA256)
		}
	}
	if _, err := infer.OpenTokenizer(dir, a.cfg); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(m.Files, func(f infer.FileDigest) bool { return f.Name == tokenizerFile })
	if i < 0 || m.Files[i].SHA256 != m.Tokenizer {
		return nil, fault.Inputf(manifestPath, "the tokenizer's digest is not that of %s", tokenizerFile)
	}
	v := &Verification{
		ContentHash: m.ContentHash, ToolVersion: m.ToolVersion,
		Files: len(m.Files) + 2, Tensors: len(m.Tensors),
		BPW: m.BPW, Ledger: m.Ledger, Bytes: total,
	}
	for _, name := range []string{infer.ManifestFile, infer.ManifestDigestFile} {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil {
			v.Bytes += st.Size()
		}
	}
	return v, nil
}

// checkDirectory holds names and sizes against the manifest and returns the sum
// of the sizes.
func checkDirectory(dir string, m *infer.Manifest) (int64, error) {
	var total int64
	known := map[string]bool{infer.ManifestFile: true, infer.ManifestDigestFile: true}
	for _, f := range m.Files {
		known[f.Name] = true
		path := filepath.Join(dir, f.Name)
		st, err := os.Stat(path)
		switch {
		case err != nil && os.IsNotExist(err):
			return 0, fault.Inputf(path, "is missing; %s lists it", infer.ManifestFile)
		case err != nil:
			return 0, fault.Reading(path, err)
		case !st.Mode().IsRegular():
			return 0, fault.Inputf(path, "is not a regular file")
		case st.Size() != f.Bytes:
			return 0, fault.Inputf(path, "has %d bytes; %s says %d", st.Size(), infer.ManifestFile, f.Bytes)
		}
		total += f.Bytes
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fault.Reading(dir, err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			what := "file"
			if e.Type()&fs.ModeDir != 0 {
				what = "directory"
			}
			return 0, fault.Inputf(filepath.Join(dir, e.Name()), "is a %s that %s does not list", what, infer.ManifestFile)
		}
	}
	return total, nil
}

// artifact is an opened artifact whose tensors' names, types and shapes are
// those of its manifest and of its configuration.
type artifact struct {
	dir    string
	m      *infer.Manifest
	cfg    *infer.Config
	file   *safetensors.File
	layout []infer.StoredTensor
	digest map[string]infer.TensorDigest
}

func openArtifact(dir string, m *infer.Manifest) (*artifact, error) {
	cfg, err := infer.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	configPath := filepath.Join(dir, configFile)
	q := cfg.Quantization
	if q == nil {
		return nil, fault.Inputf(configPath, "has no %s", quantizationKey)
	}
	if q.Bits != m.Plan.Bits || q.GroupRows != m.Plan.GroupRows {
		return nil, fault.Inputf(configPath, "%s says %d bits and groups of %d rows; %s says %d and %d", quantizationKey,
			q.Bits, q.GroupRows, infer.ManifestFile, m.Plan.Bits, m.Plan.GroupRows)
	}
	a := &artifact{dir: dir, m: m, cfg: cfg, digest: make(map[string]infer.TensorDigest, len(m.Tensors))}
	for _, d := range m.Tensors {
		a.digest[d.Name] = d
	}
	if a.layout, err = infer.StoredLayout(cfg, m.Plan.GroupRows, m.Tensors); err != nil {
		return nil, fault.Inputf(filepath.Join(dir, infer.ManifestFile), "%v", err)
	}
	path := filepath.Join(dir, infer.WeightsFile)
	if a.file, err = safetensors.Open(path); err != nil {
		return nil, err
	}
	if err := a.checkHeader(path); err != nil {
		a.file.Close()
		return nil, err
	}
	return a, nil
}

func (a *artifact) checkHeader(path string) error {
	for _, name := range a.file.Names() {
		t, _ := a.file.Tensor(name)
		want, ok := a.digest[name]
		if !ok {
			return fault.Inputf(path, "tensor %q is not listed in %s", name, infer.ManifestFile)
		}
		if t.DType.String() != want.DType || !slices.Equal(t.Shape, want.Shape) {
			return fault.Inputf(path, "tensor %q is %s %v; %s says %s %v", name, t.DType, t.Shape, infer.ManifestFile, want.DType, want.Shape)
		}
	}
	for _, d := range a.m.Tensors {
		if _, ok := a.file.Tensor(d.Name); !ok {
			return fault.Inputf(path, "tensor %q is missing; %s lists it", d.Name, infer.ManifestFile)
		}
	}
	return nil
}

// checkTensors holds the data of every tensor against its digest and looks for
// values that no writer of ours writes.
func (a *artifact) checkTensors(ctx context.Context, pool *kernel.Pool, p progress.Reporter) error {
	errs := make([]error, len(a.layout))
	pool.Run(len(a.layout), func(_, i int) {
		if errs[i] = ctx.Err(); errs[i] != nil {
			return
		}
		st := &a.layout[i]
		if errs[i] = a.checkDigests(ctx, st); errs[i] == nil {
			errs[i] = a.checkValues(st)
		}
		a.release(st)
		p.Advance(st.Bytes)
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *artifact) checkDigests(ctx context.Context, st *infer.StoredTensor) error {
	for _, name := range st.Names {
		t, _ := a.file.Tensor(name)
		got, err := infer.DigestTensor(ctx, t)
		if err != nil {
			return err
		}
		if want := a.digest[name]; got.SHA256 != want.SHA256 {
			return fault.Inputf(t.Path(), "tensor %q differs from what %s says: SHA-256 is %s, not %s", name, infer.ManifestFile, got.SHA256, want.SHA256)
		}
	}
	return nil
}

func (a *artifact) release(st *infer.StoredTensor) {
	for _, name := range st.Names {
		t, _ := a.file.Tensor(name)
		t.Release()
	}
}

func (a *artifact) checkValues(st *infer.StoredTensor) error {
	t, _ := a.file.Tensor(st.Names[0])
	err := safetensors.Guard(t.Path(), func() error {
		switch st.Form {
		case infer.Palette:
			m, err := a.palette(st)
			if err != nil {
				return err
			}
			if err := m.Validate(); err != nil {
				return err
			}
			return checkAscending(m)
		case infer.RowInt8:
			q, scale, err := a.rows8(st)
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

// palette views the stored tensors of a palettized matrix.
func (a *artifact) palette(st *infer.StoredTensor) (*palettize.Matrix, error) {
	m := &palettize.Matrix{Rows: st.Spec.Shape[0], Cols: st.Spec.Shape[1], Bits: st.Bits, GroupRows: a.m.Plan.GroupRows}
	t, _ := a.file.Tensor(st.Names[0])
	m.Indices = t.Bytes()
	var err error
	t, _ = a.file.Tensor(st.Names[1])
	if m.LUT, err = safetensors.View[uint16](t); err != nil {
		return nil, err
	}
	if len(st.Names) > 2 {
		t, _ = a.file.Tensor(st.Names[2])
		m.RowScale, err = safetensors.View[uint16](t)
	}
	return m, err
}

// rows8 views the stored tensors of an int8 matrix.
func (a *artifact) rows8(st *infer.StoredTensor) ([]int8, []float32, error) {
	t, _ := a.file.Tensor(st.Names[0])
	q, err := safetensors.View[int8](t)
	if err != nil {
		return nil, nil, err
	}
	t, _ = a.file.Tensor(st.Names[1])
	scale, err := safetensors.View[float32](t)
	return q, scale, err
}

// checkPlan derives ledger, bits per weight and the plan's account of every
// matrix from the tensors.
func (a *artifact) checkPlan() error {
	path := filepath.Join(a.dir, infer.ManifestFile)
	if bpw := infer.MeasureBits(a.layout); bpw.Projections != a.m.BPW.Projections || bpw.Model != a.m.BPW.Model || a.m.BPW.WithAdapter != nil {
		return fault.Inputf(path, "bpw is not what the tensors give: %v for projections, %v for the model", bpw.Projections, bpw.Model)
	}
	var exceptions []moduleBits
	modules := a.m.Plan.Modules
	for i := range a.layout {
		st := &a.layout[i]
		if len(st.Spec.Shape) != 2 {
			continue
		}
		got := planModule(st, 0)
		if len(modules) == 0 {
			return fault.Inputf(path, "plan does not list module %q", got.Name)
		}
		want := modules[0]
		modules = modules[1:]
		if a.m.Plan.Compensation == NoCompensation && (want.OutputError != 0 || want.Warning != "") {
			return fault.Inputf(path, "plan says that module %q was compensated, and that none was", got.Name)
		}
		// What cannot be known without the source and the calibration text.
		want.RelError, want.OutputError, want.Warning = 0, 0, ""
		if got != want {
			return fault.Inputf(path, "plan says %+v; the tensors give %+v", want, got)
		}
		if st.Form == infer.Palette && (len(st.Names) == 3) != a.m.Plan.RowScale {
			return fault.Inputf(path, "plan says row_scale %v; module %q is stored otherwise", a.m.Plan.RowScale, got.Name)
		}
		if e, ok := exception(st.Spec.Role, st.Form, st.Bits, a.m.Plan.Bits); ok {
			exceptions = append(exceptions, moduleBits{got.Name, e})
		}
	}
	if len(modules) > 0 {
		return fault.Inputf(path, "plan lists module %q, which the model does not have", modules[0].Name)
	}
	return a.checkExceptions(exceptions)
}

// checkExceptions holds config.json's list of modules against the tensors.
func (a *artifact) checkExceptions(want []moduleBits) error {
	path := filepath.Join(a.dir, configFile)
	listed := a.cfg.Quantization.Modules
	for _, e := range want {
		if listed[e.name] != e.bits {
			return fault.Inputf(path, "%s: module %q: the tensors have %d bits, the file says %d", quantizationKey, e.name, e.bits, listed[e.name])
		}
	}
	if len(listed) != len(want) {
		return fault.Inputf(path, "%s lists %d exceptions; the tensors have %d", quantizationKey, len(listed), len(want))
	}
	return nil
}

// planModule is the manifest's account of one stored matrix.
func planModule(st *infer.StoredTensor, relError float64) infer.PlanModule {
	return infer.PlanModule{Name: st.Spec.Module(), Form: st.Form, Bits: st.Bits, Bytes: st.Bytes, RelError: relError}
}

// exception reports whether a matrix departs from the default for its role, and
// the width that config.json then lists. The defaults are palettes of the
// default width for projections and int8 for embedding and head.
func exception(role infer.Role, form infer.Form, bits, defaultBits int) (int, bool) {
	switch {
	case form == infer.Plain:
		return sensitivity.KeepBits, true
	case role == infer.Projection:
		return bits, bits != defaultBits
	}
	return bits, form == infer.Palette
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
