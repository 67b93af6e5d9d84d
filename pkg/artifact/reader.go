package artifact

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// Reader is an open artifact. The names, types and shapes of its tensors are those of its
// manifest and its config.
type Reader struct {
	Dir      string
	Manifest *Manifest
	Config   *model.Config
	File     *safetensors.File       // model.safetensors
	Layout   []StoredTensor          // in the order of [model.Config.Tensors]
	Digests  map[string]TensorDigest // of the manifest, by name

	manifestSHA256 string // of manifest.json, lower-case hex
}

// Open opens the artifact in dir. It reads the manifest, compares names and sizes of the files
// with it, and checks that config.json and the header of model.safetensors describe the same
// tensors. It reads no weights; [OpenVerified] and [Reader.CheckTensors] do. Errors are of kind
// [fault.Input].
func Open(dir string) (*Reader, error) {
	r, _, err := open(dir)
	return r, err
}

// open is Open; it returns the size of the listed files, too.
func open(dir string) (*Reader, int64, error) {
	m, digest, err := readManifest(dir)
	if err != nil {
		return nil, 0, err
	}
	total, err := checkDirectory(dir, m)
	if err != nil {
		return nil, 0, err
	}
	r, err := OpenTensors(dir, m)
	if err != nil {
		return nil, 0, err
	}
	r.manifestSHA256 = digest
	return r, total, nil
}

// Close closes model.safetensors. Views of its tensors are invalid afterwards.
func (a *Reader) Close() { a.File.Close() }

// OpenTensors is [Open] for the artifact in dir whose manifest m was read before. It reads
// config.json and model.safetensors and ignores the other files of the directory.
func OpenTensors(dir string, m *Manifest) (*Reader, error) {
	cfg, err := model.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	configPath := filepath.Join(dir, ConfigFile)
	q := cfg.Quantization
	if q == nil {
		return nil, fault.Inputf(configPath, "has no %s", quantizationKey)
	}
	if q.Bits != m.Plan.Bits || q.GroupRows != m.Plan.GroupRows {
		return nil, fault.Inputf(configPath, "%s has %d bits and groups of %d rows; %s has %d and %d", quantizationKey,
			q.Bits, q.GroupRows, ManifestFile, m.Plan.Bits, m.Plan.GroupRows)
	}
	a := &Reader{Dir: dir, Manifest: m, Config: cfg, Digests: make(map[string]TensorDigest, len(m.Tensors))}
	for _, d := range m.Tensors {
		a.Digests[d.Name] = d
	}
	if a.Layout, err = StoredLayout(cfg, m.Plan.GroupRows, m.Tensors); err != nil {
		return nil, fault.Inputf(filepath.Join(dir, ManifestFile), "%v", err)
	}
	path := filepath.Join(dir, WeightsFile)
	if a.File, err = safetensors.Open(path); err != nil {
		return nil, err
	}
	if err := a.checkHeader(path); err != nil {
		a.File.Close()
		return nil, err
	}
	return a, nil
}

func (a *Reader) checkHeader(path string) error {
	for _, name := range a.File.Names() {
		t, _ := a.File.Tensor(name)
		want, ok := a.Digests[name]
		if !ok {
			return fault.Inputf(path, "tensor %q is not listed in %s", name, ManifestFile)
		}
		if t.DType.String() != want.DType || !slices.Equal(t.Shape, want.Shape) {
			return fault.Inputf(path, "tensor %q is %s %v; %s lists %s %v", name, t.DType, t.Shape, ManifestFile, want.DType, want.Shape)
		}
	}
	for _, d := range a.Manifest.Tensors {
		if _, ok := a.File.Tensor(d.Name); !ok {
			return fault.Inputf(path, "tensor %q is missing; %s lists it", d.Name, ManifestFile)
		}
	}
	return nil
}

// checkDirectory compares the names and sizes of the files in dir with the manifest and returns
// the sum of the sizes. Accessories may be there too.
func checkDirectory(dir string, m *Manifest) (int64, error) {
	var total int64
	known := map[string]bool{ManifestFile: true, ManifestDigestFile: true}
	for _, f := range m.Files {
		known[f.Name] = true
		path := filepath.Join(dir, f.Name)
		st, err := os.Stat(path)
		switch {
		case err != nil && os.IsNotExist(err):
			return 0, fault.Inputf(path, "is missing; %s lists it", ManifestFile)
		case err != nil:
			return 0, fault.Reading(path, err)
		case !st.Mode().IsRegular():
			return 0, fault.Inputf(path, "is not a regular file")
		case st.Size() != f.Bytes:
			if file, _, err := infile.Open(path); err == nil {
				file.Close()
			} else if fault.KindOf(err) == fault.Input { // a Git LFS pointer
				return 0, err
			}
			return 0, fault.Inputf(path, "has %d bytes; %s lists %d", st.Size(), ManifestFile, f.Bytes)
		}
		total += f.Bytes
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fault.Reading(dir, err)
	}
	for _, e := range entries {
		if !known[e.Name()] && !accessory(e) {
			what := "file"
			if e.Type()&fs.ModeDir != 0 {
				what = "directory"
			}
			return 0, fault.Inputf(filepath.Join(dir, e.Name()), "is a %s that %s does not list", what, ManifestFile)
		}
	}
	return total, nil
}

// Release lets the system drop the pages of a stored tensor from memory.
func (a *Reader) Release(st *StoredTensor) {
	for _, name := range st.Names {
		t, _ := a.File.Tensor(name)
		t.Release()
	}
}

// Palette returns a palettized matrix whose data are views of the file.
func (a *Reader) Palette(st *StoredTensor) (*palettize.Matrix, error) {
	m := &palettize.Matrix{Rows: st.Spec.Shape[0], Cols: st.Spec.Shape[1], Bits: st.Bits, GroupRows: a.Manifest.Plan.GroupRows}
	t, _ := a.File.Tensor(st.Names[0])
	m.Indices = t.Bytes()
	var err error
	t, _ = a.File.Tensor(st.Names[1])
	if m.LUT, err = safetensors.View[uint16](t); err != nil {
		return nil, err
	}
	if len(st.Names) > 2 {
		t, _ = a.File.Tensor(st.Names[2])
		m.RowScale, err = safetensors.View[uint16](t)
	}
	return m, err
}

// Int8 returns views of the values [rows, cols] and the scales [rows] of an 8-bit matrix.
func (a *Reader) Int8(st *StoredTensor) ([]int8, []float32, error) {
	t, _ := a.File.Tensor(st.Names[0])
	q, err := safetensors.View[int8](t)
	if err != nil {
		return nil, nil, err
	}
	t, _ = a.File.Tensor(st.Names[1])
	scale, err := safetensors.View[float32](t)
	return q, scale, err
}

// Rows returns a function that computes the rows [r0, r1) of a stored tensor in float32, into
// dst, [r1-r0, cols]. A vector has one column.
func (a *Reader) Rows(st *StoredTensor) (func(dst []float32, r0, r1 int) error, error) {
	switch st.Form {
	case Palette:
		m, err := a.Palette(st)
		return func(dst []float32, r0, r1 int) error {
			m.DequantizeRows(dst, r0, r1)
			return nil
		}, err
	case RowInt8:
		q, scale, err := a.Int8(st)
		cols := st.Spec.Shape[1]
		return func(dst []float32, r0, r1 int) error {
			for r := r0; r < r1; r++ {
				row := dst[(r-r0)*cols : (r-r0+1)*cols]
				for i, x := range q[r*cols : (r+1)*cols] {
					row[i] = float32(x) * scale[r]
				}
			}
			return nil
		}, err
	}
	if g, data, ok := a.Grid(st); ok {
		return g.Weights(data, st.Spec.Shape[0], st.Spec.Shape[1])
	}
	t, _ := a.File.Tensor(st.Names[0])
	return denseRows(t), nil
}

// Grid returns the grid of a matrix that is on one but no palette, with views of its data. The
// boolean is false for other tensors.
func (a *Reader) Grid(st *StoredTensor) (grid.Grid, grid.Data, bool) {
	scales := safetensors.F16
	var data grid.Data
	for i, name := range st.Names {
		t, _ := a.File.Tensor(name)
		if i == 1 {
			scales = t.DType
		}
		data = append(data, t.Bytes())
	}
	g, ok := st.Form.Grid(scales)
	return g, data, ok
}

// denseRows is Rows for a tensor in F16, BF16 or F32.
func denseRows(t *safetensors.Tensor) func(dst []float32, r0, r1 int) error {
	width := t.NumElements() / t.Shape[0]
	return func(dst []float32, r0, r1 int) error {
		return t.Float32(dst, r0*width)
	}
}
