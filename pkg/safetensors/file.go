package safetensors

import (
	"maps"

	"afmq/internal/infile"
)

// File is an open safetensors file. Its methods may be called concurrently, except
// that Close must not be called while tensors are in use.
type File struct {
	path    string
	m       *mapping
	header  *header
	tensors []*Tensor // in the order of their data
	index   map[string]*Tensor
}

// Open maps the file at path and checks its whole header. Errors are of kind
// fault.Input and name the file and, where there is one, the tensor.
func Open(path string) (*File, error) {
	file, info, err := infile.Open(path)
	if err != nil {
		return nil, err
	}
	h, err := readHeader(path, file, info.Size())
	if err != nil {
		file.Close()
		return nil, err
	}
	m, err := newMapping(path, file, info)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, m: m, header: h, index: make(map[string]*Tensor, len(h.entries))}
	for i := range h.entries {
		e := &h.entries[i]
		t := &Tensor{Name: e.name, DType: e.dtype, Shape: e.shape, file: f, begin: h.size + e.begin, end: h.size + e.end}
		f.tensors = append(f.tensors, t)
		f.index[t.Name] = t
	}
	return f, nil
}

// Path returns the path given to Open.
func (f *File) Path() string { return f.path }

// Names returns the names of all tensors in the order of their data in the file.
func (f *File) Names() []string {
	names := make([]string, len(f.tensors))
	for i, t := range f.tensors {
		names[i] = t.Name
	}
	return names
}

// Tensor returns the named tensor, or false if there is none.
func (f *File) Tensor(name string) (*Tensor, bool) {
	t, ok := f.index[name]
	return t, ok
}

// Metadata returns the header's __metadata__ entries, nil if it has none.
func (f *File) Metadata() map[string]string { return maps.Clone(f.header.metadata) }

// HeaderBytes returns the size of everything before the first tensor: the 8 bytes
// of the length, the JSON and its padding.
func (f *File) HeaderBytes() int64 { return f.header.size }

// Bytes returns the size of the file when it was opened.
func (f *File) Bytes() int64 { return f.m.size }

// Check returns an error of kind fault.Input if the file was truncated or written to
// since it was opened, in which case what was read from it is invalid. Renaming
// another file over its path does not change the open file.
func (f *File) Check() error { return f.m.check() }

// Close unmaps the file. Slices that were obtained from it must not be used
// afterwards: reading one crashes.
func (f *File) Close() error { return f.m.close() }
