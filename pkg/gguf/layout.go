package gguf

import (
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"afmq/pkg/ggml"
)

// Info describes a tensor to be written.
type Info struct {
	Name  string // unique, of at most 63 bytes
	Type  ggml.Type
	Shape []int // row-major, at most 4 entries; rows are whole blocks of the type
}

// Bytes returns the size of the tensor's data in bytes, without padding.
func (x Info) Bytes() (int64, error) {
	if len(x.Shape) > maxDims {
		return 0, fmt.Errorf("gguf: tensor %q has %d dimensions; the limit is %d", x.Name, len(x.Shape), maxDims)
	}
	for _, n := range x.Shape {
		if n < 0 {
			return 0, fmt.Errorf("gguf: tensor %q: shape %v has a negative dimension", x.Name, x.Shape)
		}
	}
	n, err := dataBytes(x.Type, x.Shape)
	if err != nil {
		return 0, fmt.Errorf("gguf: tensor %q: %w", x.Name, err)
	}
	return n, nil
}

// FileSize returns the sizes in bytes of the header, which is everything before the first tensor,
// and of the whole file that Create would write. It returns an error if Create would refuse the
// arguments.
func FileSize(metadata []KV, infos []Info) (header, total int64, err error) {
	l, err := newLayout(metadata, infos)
	if err != nil {
		return 0, 0, err
	}
	return int64(len(l.front)), l.total(), nil
}

// layout describes a file to be written.
type layout struct {
	infos     []Info
	front     []byte // the encoded header with its padding
	alignment uint64
	begins    []int64 // file offset of each tensor and of the end of the file
	sizes     []int64 // of the data, without padding
}

func (l *layout) total() int64 { return l.begins[len(l.infos)] }

// newLayout encodes the header. The bytes depend only on the arguments.
func newLayout(metadata []KV, infos []Info) (*layout, error) {
	l := &layout{infos: infos}
	var err error
	if l.alignment, err = alignmentOf(metadata); err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	b := append([]byte(nil), magic...)
	b = le.AppendUint32(b, latest)
	b = le.AppendUint64(b, uint64(len(infos)))
	b = le.AppendUint64(b, uint64(len(metadata)))
	if b, err = appendMetadata(b, metadata); err != nil {
		return nil, err
	}
	offsets, err := l.placeTensors()
	if err != nil {
		return nil, err
	}
	for i, x := range infos {
		b = appendString(b, x.Name)
		b = le.AppendUint32(b, uint32(len(x.Shape)))
		for _, n := range slices.Backward(x.Shape) {
			b = le.AppendUint64(b, uint64(n))
		}
		b = le.AppendUint32(b, uint32(x.Type))
		b = le.AppendUint64(b, uint64(offsets[i]))
	}
	b = append(b, make([]byte, pad(uint64(len(b)), l.alignment)-uint64(len(b)))...)
	l.front = b
	for _, at := range offsets {
		l.begins = append(l.begins, int64(len(b))+at)
	}
	return l, nil
}

// placeTensors checks the tensors and returns the offsets of their data relative to that of the
// first, and of the end.
func (l *layout) placeTensors() ([]int64, error) {
	seen := make(map[string]bool, len(l.infos))
	offsets := []int64{0}
	at := uint64(0)
	for _, x := range l.infos {
		switch {
		case len(x.Name) > maxName:
			return nil, fmt.Errorf("gguf: tensor name %q has %d bytes; the limit is %d", x.Name, len(x.Name), maxName)
		case !utf8.ValidString(x.Name):
			return nil, fmt.Errorf("gguf: tensor name %q is not valid UTF-8", x.Name)
		case seen[x.Name]:
			return nil, fmt.Errorf("gguf: duplicate tensor %q", x.Name)
		}
		seen[x.Name] = true
		n, err := x.Bytes()
		if err != nil {
			return nil, err
		}
		l.sizes = append(l.sizes, n)
		if at = pad(at+uint64(n), l.alignment); at > math.MaxInt64/2 {
			return nil, fmt.Errorf("gguf: tensor %q: the file's size overflows", x.Name)
		}
		offsets = append(offsets, int64(at))
	}
	return offsets, nil
}

func appendMetadata(b []byte, metadata []KV) ([]byte, error) {
	seen := make(map[string]bool, len(metadata))
	for _, kv := range metadata {
		switch {
		case kv.Key == "" || len(kv.Key) > maxKey || !utf8.ValidString(kv.Key):
			return nil, fmt.Errorf("gguf: key %q is empty, not valid UTF-8 or longer than %d bytes", kv.Key, maxKey)
		case seen[kv.Key]:
			return nil, fmt.Errorf("gguf: duplicate key %q", kv.Key)
		}
		seen[kv.Key] = true
		t, err := typeOf(kv.Value)
		if err == nil {
			b = le.AppendUint32(appendString(b, kv.Key), uint32(t))
			b, err = appendValue(b, kv.Value, 0)
		}
		if err != nil {
			return nil, fmt.Errorf("gguf: key %q: %w", kv.Key, err)
		}
	}
	return b, nil
}

// appendValue appends a value inside depth arrays, without its type.
func appendValue(b []byte, v any, depth int) ([]byte, error) {
	switch v := v.(type) {
	case uint8:
		return append(b, v), nil
	case int8:
		return append(b, uint8(v)), nil
	case uint16:
		return le.AppendUint16(b, v), nil
	case int16:
		return le.AppendUint16(b, uint16(v)), nil
	case uint32:
		return le.AppendUint32(b, v), nil
	case int32:
		return le.AppendUint32(b, uint32(v)), nil
	case float32:
		return le.AppendUint32(b, math.Float32bits(v)), nil
	case bool:
		if v {
			return append(b, 1), nil
		}
		return append(b, 0), nil
	case string:
		return appendString(b, v), nil
	case uint64:
		return le.AppendUint64(b, v), nil
	case int64:
		return le.AppendUint64(b, uint64(v)), nil
	case float64:
		return le.AppendUint64(b, math.Float64bits(v)), nil
	}
	return appendArray(b, v, depth)
}

// appendArray appends the type of the elements, their number and the elements.
func appendArray(b []byte, v any, depth int) ([]byte, error) {
	t, err := elementOf(v)
	if err != nil {
		return nil, err
	}
	if depth == maxNesting {
		return nil, fmt.Errorf("arrays are nested deeper than %d", maxNesting)
	}
	b = le.AppendUint32(b, uint32(t))
	switch v := v.(type) {
	case []uint8:
		return append(le.AppendUint64(b, uint64(len(v))), v...), nil
	case []int8:
		return appendElements(b, v, depth)
	case []uint16:
		return appendElements(b, v, depth)
	case []int16:
		return appendElements(b, v, depth)
	case []uint32:
		return appendElements(b, v, depth)
	case []int32:
		return appendElements(b, v, depth)
	case []float32:
		return appendElements(b, v, depth)
	case []bool:
		return appendElements(b, v, depth)
	case []string:
		return appendElements(b, v, depth)
	case []uint64:
		return appendElements(b, v, depth)
	case []int64:
		return appendElements(b, v, depth)
	case []float64:
		return appendElements(b, v, depth)
	}
	for _, x := range v.([]any) {
		if _, err := elementOf(x); err != nil {
			return nil, fmt.Errorf("an array of arrays: %w", err)
		}
	}
	return appendElements(b, v.([]any), depth)
}

func appendElements[T any](b []byte, v []T, depth int) ([]byte, error) {
	b = le.AppendUint64(b, uint64(len(v)))
	for _, x := range v {
		var err error
		if b, err = appendValue(b, x, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendString(b []byte, s string) []byte {
	return append(le.AppendUint64(b, uint64(len(s))), s...)
}
