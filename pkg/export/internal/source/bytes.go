package source

import (
	"encoding/binary"
	"io"
	"math"

	"afmq/pkg/palettize"
)

// WriteIndices writes the indices of a palette as one run of bits, lowest first, the order of
// Core ML and Core AI. An artifact starts each row at a byte; the two differ if a row does not
// fill its last byte.
func WriteIndices(to io.Writer, m *palettize.Matrix) error {
	if m.Cols*m.Bits%8 == 0 {
		_, err := to.Write(m.Indices)
		return err
	}
	var acc uint64
	var bits int
	buf := make([]byte, 0, m.RowBytes()+8)
	for r := range m.Rows {
		row := m.Indices[r*m.RowBytes() : (r+1)*m.RowBytes()]
		for i, x := range row {
			n := min(8, m.Cols*m.Bits-8*i)
			acc |= uint64(x) << bits // the unused bits of a row's last byte are zero
			bits += n
			for bits >= 8 {
				buf = append(buf, byte(acc))
				acc >>= 8
				bits -= 8
			}
		}
		if _, err := to.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	if bits > 0 {
		_, err := to.Write([]byte{byte(acc)})
		return err
	}
	return nil
}

// WriteHalves writes fp16 values in little-endian order.
func WriteHalves(to io.Writer, values []uint16) error {
	return inPieces(to, values, 2, binary.LittleEndian.AppendUint16)
}

// WriteFloats writes float32 values in little-endian order.
func WriteFloats(to io.Writer, values []float32) error {
	return inPieces(to, values, 4, func(b []byte, x float32) []byte {
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	})
}

// WriteInt8 writes signed bytes.
func WriteInt8(to io.Writer, values []int8) error {
	return inPieces(to, values, 1, func(b []byte, x int8) []byte { return append(b, byte(x)) })
}

// inPieces writes values of a size in bytes through a buffer.
func inPieces[T any](to io.Writer, values []T, size int, put func([]byte, T) []byte) error {
	buf := make([]byte, 0, 8192)
	for len(values) > 0 {
		n := min(len(values), cap(buf)/size)
		buf = buf[:0]
		for _, v := range values[:n] {
			buf = put(buf, v)
		}
		if _, err := to.Write(buf); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}
