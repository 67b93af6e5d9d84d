package safetensors

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Info describes a tensor to be written.
type Info struct {
	Name  string
	DType DType
	Shape []int // row-major; empty for a scalar; an entry may be 0
}

// Bytes returns the size of the tensor's data in bytes. An overflow is an error.
func (x Info) Bytes() (int64, error) {
	if x.DType.Size() == 0 {
		return 0, fmt.Errorf("safetensors: tensor %q has no type", x.Name)
	}
	n, ok := product(x.Shape, x.DType)
	if !ok {
		return 0, fmt.Errorf("safetensors: tensor %q: shape %v overflows", x.Name, x.Shape)
	}
	return n, nil
}

// FileSize returns the sizes in bytes of the header, which is everything before the
// first tensor, and of the whole file that Create would write. It returns an error if
// Create would refuse the arguments.
func FileSize(infos []Info, metadata map[string]string) (header, total int64, err error) {
	l, err := newLayout(infos, metadata)
	if err != nil {
		return 0, 0, err
	}
	return int64(len(l.front)), l.total(), nil
}

// layout describes a file to be written: its header and the end of each tensor.
type layout struct {
	infos []Info
	front []byte  // the encoded header: length, JSON, padding
	ends  []int64 // file offset of the end of each tensor
}

func (l *layout) total() int64 { return l.end(len(l.ends)) }

// end returns the file offset of the end of the first n tensors.
func (l *layout) end(n int) int64 {
	if n == 0 {
		return int64(len(l.front))
	}
	return l.ends[n-1]
}

// newLayout encodes the header. The bytes depend only on the arguments: metadata keys
// are sorted, tensors are in the given order, and spaces pad the header to a multiple
// of 8 bytes. For tensors in the reference implementation's order it is the header
// that the reference implementation writes.
func newLayout(infos []Info, metadata map[string]string) (*layout, error) {
	l := &layout{infos: infos, ends: make([]int64, len(infos))}
	b := append(make([]byte, lengthBytes), '{')
	if metadata != nil {
		b = append(b, `"`+metadataKey+`":{`...)
		for i, k := range slices.Sorted(maps.Keys(metadata)) {
			if !utf8.ValidString(k) || !utf8.ValidString(metadata[k]) {
				return nil, fmt.Errorf("safetensors: metadata %q is not valid UTF-8", k)
			}
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, k), ':')
			b = appendString(b, metadata[k])
		}
		b = append(b, '}')
	}
	seen := make(map[string]bool, len(infos))
	at := int64(0)
	for i, x := range infos {
		switch {
		case x.Name == metadataKey:
			return nil, fmt.Errorf("safetensors: tensor name %q is reserved", x.Name)
		case !utf8.ValidString(x.Name):
			return nil, fmt.Errorf("safetensors: tensor name %q is not valid UTF-8", x.Name)
		case seen[x.Name]:
			return nil, fmt.Errorf("safetensors: duplicate tensor %q", x.Name)
		}
		seen[x.Name] = true
		n, err := x.Bytes()
		if err != nil {
			return nil, err
		}
		if n > math.MaxInt64-maxHeader-lengthBytes-at {
			return nil, fmt.Errorf("safetensors: tensor %q: the file's size overflows", x.Name)
		}
		if i > 0 || metadata != nil {
			b = append(b, ',')
		}
		b = append(appendString(b, x.Name), `:{"dtype":"`...)
		b = append(append(b, x.DType.String()...), `","shape":[`...)
		for j, dim := range x.Shape {
			if j > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(dim), 10)
		}
		b = strconv.AppendInt(append(b, `],"data_offsets":[`...), at, 10)
		b = strconv.AppendInt(append(b, ','), at+n, 10)
		b = append(b, "]}"...)
		at += n
		l.ends[i] = at
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	size := len(b) - lengthBytes
	if size > maxHeader {
		return nil, fmt.Errorf("safetensors: header of %d bytes exceeds the format's limit of %d", size, maxHeader)
	}
	binary.LittleEndian.PutUint64(b, uint64(size))
	l.front = b
	for i := range l.ends {
		l.ends[i] += int64(len(b))
	}
	return l, nil
}

// appendString appends s as a JSON string. Like the reference implementation it
// escapes only what JSON requires, in the shortest form.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range []byte(s) {
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			if c < 0x20 {
				b = fmt.Appendf(b, `\u%04x`, c)
			} else {
				b = append(b, c)
			}
		}
	}
	return append(b, '"')
}
