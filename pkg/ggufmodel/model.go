package ggufmodel

import (
	"os"
	"slices"
	"strings"

	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/gguf"
	"afmq/pkg/model"
)

// Is reports whether path is a file of the name of a GGUF file.
func Is(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && strings.HasSuffix(strings.ToLower(path), ".gguf")
}

// Model is the model in an open GGUF file. Its methods may be called concurrently, except that
// Close must not be called while tensors are being read.
type Model struct {
	File         *gguf.File
	Architecture Architecture
	Config       *model.Config
	Tensors      []Tensor // every tensor of the model, in the order of [model.Config.Tensors]
}

// Tensor is a tensor of the model and where the file stores it.
type Tensor struct {
	Spec   model.TensorSpec // as in a checkpoint
	Stored *gguf.Tensor

	fileRow func(i int) int // as [Architecture.FileRow]
}

// Open opens the file at path. It must store every tensor of its architecture, in its exact shape
// and in a type that package ggml converts, and no other. Errors are of kind [fault.Input] and name
// the file and the key or the tensor.
func Open(path string) (*Model, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	m := &Model{File: f}
	if m.Config, m.Architecture, err = readConfig(f); err == nil {
		err = m.findTensors()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return m, nil
}

// Close closes the file.
func (m *Model) Close() error { return m.File.Close() }

// findTensors finds every tensor of the model in the file.
func (m *Model) findTensors() error {
	path, used := m.File.Path(), map[string]bool{}
	for _, spec := range m.Config.Tensors() {
		name := TensorName(spec)
		t, ok := m.File.Tensor(name)
		switch {
		case !ok:
			return fault.Inputf(path, "tensor %q is missing", name)
		case !slices.Equal(t.Shape, spec.Shape):
			return fault.Inputf(path, "tensor %q has shape %v; the keys of the file require %v", name, t.Shape, spec.Shape)
		case !t.Type.Converts():
			return fault.Inputf(path, "tensor %q is %v, which is not supported", name, t.Type).
				WithHint("make the file in one of %s", typeNames())
		}
		used[name] = true
		m.Tensors = append(m.Tensors, Tensor{Spec: spec, Stored: t, fileRow: m.Architecture.FileRow(spec, m.Config.HeadDim)})
	}
	for _, name := range m.Architecture.factorTensors(m.File) {
		used[name] = true
	}
	for _, t := range m.File.Tensors() {
		if !used[t.Name] {
			return fault.Inputf(path, "tensor %q is not part of the %s model that the keys of the file describe", t.Name, m.Architecture.Name)
		}
	}
	return nil
}

// typeNames lists the types that can be read.
func typeNames() string {
	var names []string
	for _, t := range ggml.Types() {
		names = append(names, t.String())
	}
	return strings.Join(names, ", ")
}

// Name returns the name of the tensor in the file.
func (t *Tensor) Name() string { return t.Stored.Name }

// Path returns the path of the file.
func (t *Tensor) Path() string { return t.Stored.Path() }

// ReadRows fills dst, a whole number of rows of a matrix, with their bytes in the file, from the
// given row of the checkpoint on. Errors are those of [gguf.Tensor.ReadRows].
func (t *Tensor) ReadRows(dst []byte, row int) error {
	if t.fileRow == nil {
		return t.Stored.ReadRows(dst, row)
	}
	n := t.Stored.RowBytes()
	for i := 0; i < len(dst); i += n {
		if err := t.Stored.ReadRows(dst[i:i+n], t.fileRow(row+i/n)); err != nil {
			return err
		}
	}
	return nil
}

// Vector returns the values of a norm or a bias.
func (t *Tensor) Vector() ([]float32, error) {
	v := make([]float32, t.Spec.Shape[0])
	if err := t.Stored.Float32(v, 0); err != nil {
		return nil, err
	}
	if t.fileRow != nil {
		ordered := make([]float32, len(v))
		for i := range v {
			ordered[i] = v[t.fileRow(i)]
		}
		v = ordered
	}
	return v, nil
}
