package quantize

import (
	"encoding/binary"
	"math"
)

// bytesFloat32 decodes little-endian float32 values.
func bytesFloat32(b []byte) []float32 {
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}

// bytesInt8 converts bytes to int8 values.
func bytesInt8(b []byte) []int8 {
	v := make([]int8, len(b))
	for i, x := range b {
		v[i] = int8(x)
	}
	return v
}

// uint16Bytes encodes v little-endian.
func uint16Bytes(v []uint16) []byte {
	b := make([]byte, 0, 2*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint16(b, x)
	}
	return b
}

// float32Bytes encodes v little-endian.
func float32Bytes(v []float32) []byte {
	b := make([]byte, 4*len(v))
	if _, err := binary.Encode(b, binary.LittleEndian, v); err != nil {
		panic(err) // the buffer has the size
	}
	return b
}
