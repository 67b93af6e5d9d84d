package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// scanner reads numbers, strings and values from the head of a file and knows how many bytes are
// left. After an error every read returns zero values.
type scanner struct {
	r    *bufio.Reader
	left uint64
	err  error
	word [8]byte
}

func newScanner(r io.ReaderAt, size int64) *scanner {
	return &scanner{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 1<<16), left: uint64(size)}
}

// errEnd is the error of a file that ends inside its head.
var errEnd = errors.New("the file ends inside it; truncated?")

func (s *scanner) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
	}
}

// fill reads len(p) bytes.
func (s *scanner) fill(p []byte) {
	if s.err == nil && uint64(len(p)) > s.left {
		s.err = errEnd
	}
	if s.err != nil {
		clear(p)
		return
	}
	n, err := io.ReadFull(s.r, p)
	s.left -= uint64(n)
	if err != nil {
		clear(p)
		s.err = err
	}
}

var le = binary.LittleEndian

func (s *scanner) uint8() uint8 {
	s.fill(s.word[:1])
	return s.word[0]
}

func (s *scanner) uint16() uint16 {
	s.fill(s.word[:2])
	return le.Uint16(s.word[:])
}

func (s *scanner) uint32() uint32 {
	s.fill(s.word[:4])
	return le.Uint32(s.word[:])
}

func (s *scanner) uint64() uint64 {
	s.fill(s.word[:8])
	return le.Uint64(s.word[:])
}

func (s *scanner) bool() bool {
	b := s.uint8()
	if b > 1 {
		s.fail("a bool is %d; expected 0 or 1", b)
	}
	return b == 1
}

// string reads a string of at most limit bytes.
func (s *scanner) string(limit uint64) string {
	n := s.uint64()
	switch {
	case s.err != nil:
		return ""
	case n > s.left:
		s.fail("a string of %d bytes exceeds the file, which has %d more; truncated?", n, s.left)
		return ""
	case n > limit:
		s.fail("a string of %d bytes exceeds the limit of %d", n, limit)
		return ""
	}
	b := make([]byte, n)
	s.fill(b)
	return string(b)
}

// count reads the number of things that take at least size bytes each.
func (s *scanner) count(size uint64, things string) int {
	n := s.uint64()
	if s.err == nil && n > s.left/size {
		s.fail("%d %s exceed the file, which has %d more bytes; truncated?", n, things, s.left)
	}
	if s.err != nil {
		return 0
	}
	return int(n)
}

// value reads a value of a type.
func (s *scanner) value(t valueType) any {
	switch t {
	case typeUint8:
		return s.uint8()
	case typeInt8:
		return int8(s.uint8())
	case typeUint16:
		return s.uint16()
	case typeInt16:
		return int16(s.uint16())
	case typeUint32:
		return s.uint32()
	case typeInt32:
		return int32(s.uint32())
	case typeFloat32:
		return math.Float32frombits(s.uint32())
	case typeBool:
		return s.bool()
	case typeString:
		return s.string(math.MaxUint64)
	case typeArray:
		return s.array(0)
	case typeUint64:
		return s.uint64()
	case typeInt64:
		return int64(s.uint64())
	case typeFloat64:
		return math.Float64frombits(s.uint64())
	}
	s.fail("value type %d is unknown", t)
	return nil
}

// array reads an array inside depth others.
func (s *scanner) array(depth int) any {
	t := valueType(s.uint32())
	if s.err == nil && int64(t) >= int64(len(leastBytes)) {
		s.fail("an array has elements of the unknown value type %d", t)
	}
	if depth == maxNesting {
		s.fail("arrays are nested deeper than %d", maxNesting)
	}
	if s.err != nil {
		return nil
	}
	n := s.count(leastBytes[t], "elements of an array")
	switch t {
	case typeUint8:
		b := make([]uint8, n)
		s.fill(b)
		return b
	case typeInt8:
		return elements(s, n, func() int8 { return int8(s.uint8()) })
	case typeUint16:
		return elements(s, n, s.uint16)
	case typeInt16:
		return elements(s, n, func() int16 { return int16(s.uint16()) })
	case typeUint32:
		return elements(s, n, s.uint32)
	case typeInt32:
		return elements(s, n, func() int32 { return int32(s.uint32()) })
	case typeFloat32:
		return elements(s, n, func() float32 { return math.Float32frombits(s.uint32()) })
	case typeBool:
		return elements(s, n, s.bool)
	case typeString:
		return elements(s, n, func() string { return s.string(math.MaxUint64) })
	case typeUint64:
		return elements(s, n, s.uint64)
	case typeInt64:
		return elements(s, n, func() int64 { return int64(s.uint64()) })
	case typeFloat64:
		return elements(s, n, func() float64 { return math.Float64frombits(s.uint64()) })
	}
	return elements(s, n, func() any { return s.array(depth + 1) })
}

// elements reads n values.
func elements[T any](s *scanner, n int, read func() T) []T {
	out := make([]T, n)
	for i := range out {
		if out[i] = read(); s.err != nil {
			s.err = fmt.Errorf("element %d: %w", i, s.err)
			break
		}
	}
	return out
}
