package gguf

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// File is an open GGUF file. Its methods may be called concurrently, except that Close must not
// be called while tensors are being read.
type File struct {
	path   string
	file   *os.File
	info   fs.FileInfo
	header *header
}

// Open opens the file at path and checks its whole header. Errors are of kind fault.Input and
// name the file and, where there is one, the key or the tensor.
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
	f := &File{path: path, file: file, info: info, header: h}
	for _, t := range h.tensors {
		t.file = f
	}
	return f, nil
}

// Path returns the path given to Open.
func (f *File) Path() string { return f.path }

// Version returns the version of the format, 2 or 3.
func (f *File) Version() int { return int(f.header.version) }

// Metadata returns all keys in the order of the file. The values must not be changed.
func (f *File) Metadata() []KV { return append([]KV(nil), f.header.metadata...) }

// Tensors returns all tensors in the order of the file.
func (f *File) Tensors() []*Tensor { return append([]*Tensor(nil), f.header.tensors...) }

// Tensor returns the named tensor, or false if there is none.
func (f *File) Tensor(name string) (*Tensor, bool) {
	t, ok := f.header.index[name]
	return t, ok
}

// Value returns the value of a key, or false if there is none. It must not be changed.
func (f *File) Value(key string) (any, bool) {
	v, ok := f.header.keys[key]
	return v, ok
}

// Get returns the value of a key that must be of the Go type T. A missing key and another type
// are errors of kind fault.Input.
func Get[T any](f *File, key string) (T, error) {
	var none T
	v, ok := f.header.keys[key]
	if !ok {
		return none, fault.Inputf(f.path, "key %q is missing", key)
	}
	t, ok := v.(T)
	if !ok {
		return none, fault.Inputf(f.path, "key %q: the value is a %T, expected a %T", key, v, none)
	}
	return t, nil
}

// Integer returns the value of a key that must be an integer of any type from 0 to the largest
// int. A missing key and another value are errors of kind fault.Input.
func (f *File) Integer(key string) (int, error) {
	v, ok := f.header.keys[key]
	if !ok {
		return 0, fault.Inputf(f.path, "key %q is missing", key)
	}
	var n uint64
	switch v := v.(type) {
	case uint8:
		n = uint64(v)
	case uint16:
		n = uint64(v)
	case uint32:
		n = uint64(v)
	case uint64:
		n = v
	case int8:
		n = uint64(v)
	case int16:
		n = uint64(v)
	case int32:
		n = uint64(v)
	case int64:
		n = uint64(v)
	default:
		return 0, fault.Inputf(f.path, "key %q: the value is a %T, expected an integer", key, v)
	}
	if n > math.MaxInt {
		return 0, fault.Inputf(f.path, "key %q: %v is out of range", key, v)
	}
	return int(n), nil
}

// Bytes returns the size of the file when it was opened.
func (f *File) Bytes() int64 { return f.info.Size() }

// Check returns an error of kind fault.Input if the file was truncated or written to since it was
// opened, in which case what was read from it is invalid. Renaming another file over its path
// does not change the open file.
func (f *File) Check() error {
	now, err := f.file.Stat()
	if err != nil {
		return fault.Reading(f.path, err)
	}
	if !infile.Same(f.info, now) {
		return infile.Changed(f.path)
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// readAt fills p from a file offset.
func (f *File) readAt(p []byte, at int64) error {
	n, err := f.file.ReadAt(p, at)
	switch {
	case n == len(p):
		return nil
	case err == io.EOF:
		return infile.Changed(f.path)
	case err == nil:
		err = fmt.Errorf("read %d of %d bytes", n, len(p))
	}
	return fault.Reading(f.path, err)
}
