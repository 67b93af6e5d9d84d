package artifact

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// Reader is an opened artifact whose tensors' names, types and shapes are
// those of its manifest and of its configuration.
type Reader struct {
	Dir      string
	Manifest *Manifest
	Config   *model.Config
	File     *safetensors.File
	Layout   []StoredTensor
	Digests  map[string]TensorDigest
}

// Open opens the artifact in dir: it reads the manifest, holds names and sizes of files
// against it, and checks that config.json and the header of model.safetensors list the
// same tensors. It reads no weight; [Reader.CheckTensors] and [Verify] do. Errors are
// fault.Input.
func Open(dir string) (*Reader, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	r, _, err := open(dir, m)
	return r, err
}

// open is Open with the manifest that was read; it returns the size of the listed files.
func open(dir string, m *Manifest) (*Reader, int64, error) {
	total, err := checkDirectory(dir, m)
	if err != nil {
		return nil, 0, err
	}
	r, err := openReader(dir, m)
	return r, total, err
}

// Close closes the file of weights.
func (a *Reader) Close() { a.File.Close() }

func openReader(dir string, m *Manifest) (*Reader, error) {
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
		return nil, fault.Inputf(configPath, "%s says %d bits and groups of %d rows; %s says %d and %d", quantizationKey,
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
			return fault.Inputf(path, "tensor %q is %s %v; %s says %s %v", name, t.DType, t.Shape, ManifestFile, want.DType, want.Shape)
		}
	}
	for _, d := range a.Manifest.Tensors {
		if _, ok := a.File.Tensor(d.Name); !ok {
			return fault.Inputf(path, "tensor %q is missing; %s lists it", d.Name, ManifestFile)
		}
	}
	return nil
}

// checkDirectory holds names and sizes against the manifest and returns the sum
// of the sizes.
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
			return 0, fault.Inputf(path, "has %d bytes; %s says %d", st.Size(), ManifestFile, f.Bytes)
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
			return 0, fault.Inputf(filepath.Join(dir, e.Name()), "is a %s that %s does not list", what, ManifestFile)
		}
	}
	return total, nil
}

// Release drops the pages of a stored tensor from memory.
func (a *Reader) Release(st *StoredTensor) {
	for _, name := range st.Names {
		t, _ := a.File.Tensor(name)
		t.Release()
	}
}

// Palette views the stored tensors of a palettized matrix.
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

// Int8 views the stored tensors of an int8 matrix.
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

// Rows returns the function that computes rows of a stored tensor in float32; a
// vector is a matrix of one column.
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
	t, _ := a.File.Tensor(st.Names[0])
	return denseRows(t), nil
}

// denseRows is rows of a tensor that is stored as it is.
func denseRows(t *safetensors.Tensor) func(dst []float32, r0, r1 int) error {
	width := t.NumElements() / t.Shape[0]
	return func(dst []float32, r0, r1 int) error {
		return t.Float32(dst, r0*width)
	}
}
