package gguf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
)

const (
	magic            = "GGUF"
	latest           = 3         // version
	maxKey           = 1<<16 - 1 // bytes of a key (docs/gguf.md)
	maxName          = 63        // bytes of a tensor's name (GGML_MAX_NAME less the final NUL)
	maxDims          = 4         // GGML_MAX_DIMS
	alignmentKey     = "general.alignment"
	defaultAlignment = 32
	leastKV          = 8 + 1 + 4 + 1 // bytes of a key of one character with its type and value
	leastInfo        = 8 + 4 + 4 + 8 // bytes of an empty name, no dimensions, type and offset
)

// header is what precedes the data.
type header struct {
	version  uint32
	metadata []KV
	keys     map[string]any
	tensors  []*Tensor
	index    map[string]*Tensor
	size     int64 // bytes before the data, with their padding
}

// readHeader reads and checks the header of a file of the given size.
func readHeader(path string, r io.ReaderAt, size int64) (*header, error) {
	h := &header{}
	err := h.scan(newScanner(r, size), uint64(size))
	var classified *fault.Error
	var failed *fs.PathError
	switch {
	case err == nil:
		return h, nil
	case errors.As(err, &classified):
		classified.File = path
		return nil, classified
	case errors.As(err, &failed):
		return nil, fault.Reading(path, failed)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return nil, infile.Changed(path)
	}
	return nil, fault.Inputf(path, "%v", err)
}

func (h *header) scan(s *scanner, size uint64) error {
	tensors, keys, err := h.scanCounts(s)
	if err != nil {
		return err
	}
	if err := h.scanMetadata(s, keys); err != nil {
		return err
	}
	alignment, err := alignmentOf(h.metadata)
	if err != nil {
		return err
	}
	if err := h.scanTensors(s, tensors); err != nil {
		return err
	}
	at := size - s.left
	if len(h.tensors) > 0 {
		at = pad(at, alignment)
	}
	h.size = int64(at)
	return h.checkLayout(alignment, size)
}

// scanCounts reads the magic number, the version and the numbers of tensors and keys.
func (h *header) scanCounts(s *scanner) (tensors, keys int, err error) {
	var first [4]byte
	s.fill(first[:])
	if s.err != nil || string(first[:]) != magic {
		return 0, 0, fmt.Errorf("does not begin with %q; not a GGUF file?", magic)
	}
	h.version = s.uint32()
	switch {
	case s.err != nil:
	case h.version == bits.ReverseBytes32(2), h.version == bits.ReverseBytes32(latest):
		return 0, 0, fault.Inputf("", "is big-endian; only little-endian files can be read").
			WithHint("convert it with gguf-convert-endian of the gguf package for Python")
	case h.version == 1:
		return 0, 0, fault.Inputf("", "is of GGUF version 1; versions 2 and %d can be read", latest).
			WithHint("convert the model again with a present version of llama.cpp")
	case h.version != 2 && h.version != latest:
		return 0, 0, fmt.Errorf("is of GGUF version %d; versions 2 and %d can be read", h.version, latest)
	}
	tensors = s.count(leastInfo, "tensors")
	keys = s.count(leastKV, "keys")
	if s.err != nil {
		return 0, 0, fmt.Errorf("header: %w", s.err)
	}
	return tensors, keys, nil
}

func (h *header) scanMetadata(s *scanner, n int) error {
	h.metadata, h.keys = make([]KV, 0, n), make(map[string]any, n)
	for i := range n {
		key := s.string(maxKey)
		if s.err != nil {
			return fmt.Errorf("key %d of %d: %w", i+1, n, s.err)
		}
		if key == "" {
			return fmt.Errorf("key %d of %d is empty", i+1, n)
		}
		if _, dup := h.keys[key]; dup {
			return fmt.Errorf("duplicate key %.100q", key)
		}
		v := s.value(valueType(s.uint32()))
		if s.err != nil {
			return fmt.Errorf("key %.100q: %w", key, s.err)
		}
		h.metadata = append(h.metadata, KV{key, v})
		h.keys[key] = v
	}
	return nil
}

// alignmentOf returns the alignment that the metadata asks for, in bytes.
func alignmentOf(metadata []KV) (uint64, error) {
	for _, kv := range metadata {
		if kv.Key != alignmentKey {
			continue
		}
		v, ok := kv.Value.(uint32)
		if !ok {
			return 0, fmt.Errorf("key %q: the value is a %T, expected a uint32", kv.Key, kv.Value)
		}
		if bits.OnesCount32(v) != 1 {
			return 0, fmt.Errorf("key %q: %d is not a power of two", kv.Key, v)
		}
		return uint64(v), nil
	}
	return defaultAlignment, nil
}

func (h *header) scanTensors(s *scanner, n int) error {
	h.tensors, h.index = make([]*Tensor, 0, n), make(map[string]*Tensor, n)
	for i := range n {
		name := s.string(maxName)
		if s.err != nil {
			return fmt.Errorf("tensor %d of %d: %w", i+1, n, s.err)
		}
		if h.index[name] != nil {
			return fmt.Errorf("duplicate tensor %q", name)
		}
		t, err := scanTensor(s)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		t.Name = name
		h.tensors = append(h.tensors, t)
		h.index[name] = t
	}
	return nil
}

// scanTensor reads what follows the name of a tensor.
func scanTensor(s *scanner) (*Tensor, error) {
	t := &Tensor{}
	dims := s.uint32()
	if s.err == nil && dims > maxDims {
		return nil, fmt.Errorf("has %d dimensions; the limit is %d", dims, maxDims)
	}
	for range dims {
		n := s.uint64()
		if s.err == nil && n > math.MaxInt {
			return nil, fmt.Errorf("a dimension of %d is too large", n)
		}
		t.Shape = append(t.Shape, int(n))
	}
	slices.Reverse(t.Shape)
	t.Type = ggml.Type(s.uint32())
	offset := s.uint64()
	if s.err != nil {
		return nil, s.err
	}
	if offset > math.MaxInt64 {
		return nil, fmt.Errorf("offset %d is too large", offset)
	}
	t.begin = int64(offset)
	var err error
	t.size, err = dataBytes(t.Type, t.Shape)
	return t, err
}

// dataBytes returns the size of a tensor's data. A shape without dimensions is one element.
func dataBytes(kind ggml.Type, shape []int) (int64, error) {
	if !kind.Known() {
		return 0, fmt.Errorf("%v is unknown", kind)
	}
	block, elements := uint64(kind.BlockWeights()), uint64(1)
	if n := len(shape); n > 0 && uint64(shape[n-1])%block != 0 || n == 0 && block > 1 {
		return 0, fmt.Errorf("shape %v: rows of %v are multiples of %d", shape, kind, block)
	}
	for _, n := range slices.Backward(shape) {
		hi, lo := bits.Mul64(elements, uint64(n))
		if hi > 0 || lo > math.MaxInt64 {
			return 0, fmt.Errorf("shape %v overflows", shape)
		}
		elements = lo
	}
	hi, size := bits.Mul64(elements/block, uint64(kind.BlockBytes()))
	if hi > 0 || size > math.MaxInt64/2 {
		return 0, fmt.Errorf("shape %v overflows", shape)
	}
	return int64(size), nil
}

// checkLayout checks that the data of the tensors follow each other inside the file, each padded
// to the alignment, and makes their offsets those of the file. The last padding may be missing.
func (h *header) checkLayout(alignment, size uint64) error {
	at := uint64(h.size)
	if at > size {
		return errors.New("the file ends before the data; truncated?")
	}
	for _, t := range h.tensors {
		if want := at - uint64(h.size); uint64(t.begin) != want {
			return fmt.Errorf("tensor %q: offset %d, expected %d", t.Name, t.begin, want)
		}
		if uint64(t.size) > size || at > size-uint64(t.size) {
			return fmt.Errorf("tensor %q: its data end at %d, the file at %d; truncated?", t.Name, at+uint64(t.size), size)
		}
		t.begin = int64(at)
		at = pad(at+uint64(t.size), alignment)
	}
	return nil
}

// pad rounds n up to a multiple of the alignment, a power of two.
func pad(n, alignment uint64) uint64 { return (n + alignment - 1) &^ (alignment - 1) }
