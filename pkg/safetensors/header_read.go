package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"sort"
	"unicode/utf8"

	"afmq/pkg/fault"
)

const (
	lengthBytes = 8           // size of the header's length, a little-endian uint64
	maxHeader   = 100_000_000 // bytes; the reference implementation's limit
	maxKeys     = 32          // of one tensor's object; the format defines three
	metadataKey = "__metadata__"
)

// header is the parsed header of a file, checked against the size of the file.
type header struct {
	size     int64   // bytes before the data: length, JSON, padding
	entries  []entry // in the order of their data
	metadata map[string]string
}

// entry describes one tensor. Its data is [begin, end), relative to the end of the header.
type entry struct {
	name       string
	dtype      DType
	shape      []int
	begin, end int64
}

// readHeader reads and checks the header of a file of the given size. Memory is
// bounded by the size of the header, which is bounded by that of the file.
func readHeader(path string, r io.ReaderAt, size int64) (*header, error) {
	if size < lengthBytes {
		return nil, fault.Inputf(path, "file of %d bytes is too short for a safetensors header", size)
	}
	var word [lengthBytes]byte
	if err := readFull(r, word[:], 0); err != nil {
		return nil, fault.Reading(path, err)
	}
	n := binary.LittleEndian.Uint64(word[:])
	switch {
	case n > maxHeader:
		return nil, fault.Inputf(path, "header of %d bytes exceeds the format's limit of %d; not a safetensors file?", n, maxHeader)
	case int64(n) > size-lengthBytes:
		return nil, fault.Inputf(path, "header of %d bytes extends past the end of the file (%d bytes); truncated?", n, size)
	}
	text := make([]byte, n)
	if err := readFull(r, text, lengthBytes); err != nil {
		return nil, fault.Reading(path, err)
	}
	h, err := parseHeader(text, size-lengthBytes-int64(n))
	if err != nil {
		return nil, fault.Inputf(path, "header: %v", err)
	}
	return h, nil
}

// readFull fills p from offset off. A file that ends earlier is an error.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseHeader parses the JSON of a header that is followed by dataSize bytes of data.
func parseHeader(text []byte, dataSize int64) (*header, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not valid UTF-8")
	}
	if len(text) == 0 || text[0] != '{' {
		return nil, errors.New("does not begin with '{'")
	}
	h := &header{size: lengthBytes + int64(len(text))}
	seen := make(map[string]bool)
	s := &scanner{text: string(text)}
	err := s.object(func(name string) error {
		if seen[name] {
			return s.errorf("duplicate key %q", name)
		}
		seen[name] = true
		if name == metadataKey {
			return s.metadata(&h.metadata)
		}
		e, err := s.entry(name)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		h.entries = append(h.entries, e)
		return nil
	})
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = h.checkLayout(dataSize)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

// metadata reads the value of __metadata__: an object of strings, or null, which the
// reference implementation treats as absent.
func (s *scanner) metadata(m *map[string]string) error {
	if s.word("null") {
		return nil
	}
	*m = make(map[string]string)
	err := s.object(func(key string) error {
		if _, dup := (*m)[key]; dup {
			return s.errorf("duplicate key %q", key)
		}
		v, err := s.str()
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		(*m)[key] = v
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", metadataKey, err)
	}
	return nil
}

// entry reads {"dtype": …, "shape": […], "data_offsets": [begin, end]}. Other keys
// are ignored, as in the reference implementation.
func (s *scanner) entry(name string) (entry, error) {
	e := entry{name: name}
	keys := make([]string, 0, 3) // at this size a search is faster than a map
	err := s.object(func(key string) error {
		if slices.Contains(keys, key) {
			return s.errorf("duplicate key %q", key)
		}
		if len(keys) == maxKeys {
			return s.errorf("more than %d keys", maxKeys)
		}
		keys = append(keys, key)
		switch key {
		case "dtype":
			return s.dtype(&e.dtype)
		case "shape":
			return s.shape(&e.shape)
		case "data_offsets":
			return s.offsets(&e.begin, &e.end)
		}
		return s.skip(3)
	})
	if err != nil {
		return e, err
	}
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if !slices.Contains(keys, key) {
			return e, s.errorf("key %q is missing", key)
		}
	}
	return e, e.checkSpan()
}

func (s *scanner) dtype(d *DType) error {
	name, err := s.str()
	if err != nil {
		return fmt.Errorf("dtype: %w", err)
	}
	var ok bool
	if *d, ok = dtypeOf[name]; !ok {
		return s.errorf("dtype %q is not supported", name)
	}
	return nil
}

func (s *scanner) shape(shape *[]int) error {
	*shape = []int{}
	err := s.array(func() error {
		n, err := s.unsigned()
		if err == nil && n > math.MaxInt {
			err = s.errorf("%d is too large", n)
		}
		*shape = append(*shape, int(n))
		return err
	})
	if err != nil {
		return fmt.Errorf("shape: %w", err)
	}
	return nil
}

func (s *scanner) offsets(begin, end *int64) error {
	var v []int64
	err := s.array(func() error {
		n, err := s.unsigned()
		if err == nil && n > math.MaxInt64 {
			err = s.errorf("%d is too large", n)
		}
		if err == nil && len(v) == 2 {
			err = s.errorf("more than two numbers")
		}
		v = append(v, int64(n))
		return err
	})
	if err == nil && len(v) != 2 {
		err = s.errorf("%d numbers instead of two", len(v))
	}
	if err != nil {
		return fmt.Errorf("data_offsets: %w", err)
	}
	*begin, *end = v[0], v[1]
	return nil
}

// checkSpan checks that the offsets span exactly the bytes that the shape needs.
func (e *entry) checkSpan() error {
	if e.end < e.begin {
		return fmt.Errorf("data_offsets [%d,%d]: the end is before the beginning", e.begin, e.end)
	}
	n, ok := product(e.shape, e.dtype)
	if !ok {
		return fmt.Errorf("shape %v overflows", e.shape)
	}
	if n != e.end-e.begin {
		return fmt.Errorf("%s %v needs %d bytes, but data_offsets [%d,%d] span %d", e.dtype, e.shape, n, e.begin, e.end, e.end-e.begin)
	}
	return nil
}

// product returns the size of a tensor in bytes, false if it overflows. Like the
// reference implementation it multiplies from the left, so that a dimension of 0
// after factors that overflow is still an overflow.
func product(shape []int, d DType) (int64, bool) {
	n := uint64(1)
	for _, dim := range append(shape[:len(shape):len(shape)], d.Size()) {
		if dim < 0 {
			return 0, false
		}
		hi, lo := bits.Mul64(n, uint64(dim))
		if hi != 0 {
			return 0, false
		}
		n = lo
	}
	return int64(n), n <= math.MaxInt64
}

// checkLayout sorts the entries by offset and checks that they fill dataSize bytes
// without a gap or an overlap.
func (h *header) checkLayout(dataSize int64) error {
	sort.SliceStable(h.entries, func(i, j int) bool {
		a, b := &h.entries[i], &h.entries[j]
		if a.begin != b.begin {
			return a.begin < b.begin
		}
		return a.end < b.end
	})
	at := int64(0)
	for i := range h.entries {
		e := &h.entries[i]
		switch {
		case e.begin > at:
			return fmt.Errorf("tensor %q: data_offsets [%d,%d] leave a gap of %d bytes before them", e.name, e.begin, e.end, e.begin-at)
		case e.begin < at:
			return fmt.Errorf("tensor %q: data_offsets [%d,%d] overlap tensor %q, which ends at %d", e.name, e.begin, e.end, h.entries[i-1].name, at)
		case e.end > dataSize:
			return fmt.Errorf("tensor %q: data_offsets [%d,%d] extend past the file's %d bytes of data; truncated?", e.name, e.begin, e.end, dataSize)
		}
		at = e.end
	}
	if at != dataSize {
		return fmt.Errorf("%d bytes of data after the last tensor", dataSize-at)
	}
	return nil
}
