package palettize

import (
	"encoding/binary"
	"fmt"
)

// PackRow packs the indices src [cols], each below 2^bits, into dst [ceil(cols·bits/8)],
// least significant bit first. Unused bits of the last byte are zero. It panics if dst has
// another length or bits is not 1 to 8.
func PackRow(dst []byte, src []uint8, bits int) {
	checkRow(len(dst), len(src), bits)
	switch bits {
	case 8:
		copy(dst, src)
	case 4:
		for len(src) >= 8 {
			s := binary.LittleEndian.Uint64(src)
			s |= s >> 4 // byte 2i now holds nibbles 2i and 2i+1
			dst[0], dst[1], dst[2], dst[3] = byte(s), byte(s>>16), byte(s>>32), byte(s>>48)
			src, dst = src[8:], dst[4:]
		}
		packTail(dst, src, bits)
	default:
		// 8 indices take exactly bits bytes.
		for len(src) >= 8 {
			s := src[:8:8]
			v := uint64(s[0]) | uint64(s[1])<<bits | uint64(s[2])<<(2*bits) | uint64(s[3])<<(3*bits) |
				uint64(s[4])<<(4*bits) | uint64(s[5])<<(5*bits) | uint64(s[6])<<(6*bits) | uint64(s[7])<<(7*bits)
			for i := range bits {
				dst[i] = byte(v >> (8 * i))
			}
			src, dst = src[8:], dst[bits:]
		}
		packTail(dst, src, bits)
	}
}

// packTail packs fewer than 8 indices.
func packTail(dst []byte, src []uint8, bits int) {
	var v uint64
	for i, s := range src {
		v |= uint64(s) << (i * bits)
	}
	for i := range dst {
		dst[i] = byte(v >> (8 * i))
	}
}

// UnpackRow is the inverse of [PackRow]: it unpacks src [ceil(cols·bits/8)] into dst [cols].
// It panics if src has another length or bits is not 1 to 8.
func UnpackRow(dst []uint8, src []byte, bits int) {
	checkRow(len(src), len(dst), bits)
	mask := uint64(1)<<bits - 1
	for len(dst) > 0 {
		n := min(8, len(dst))
		v := load8(src, (n*bits+7)/8)
		for i := range n {
			dst[i] = uint8(v & mask)
			v >>= bits
		}
		dst, src = dst[n:], src[(n*bits+7)/8:]
	}
}

// load8 reads the first n ≤ 8 bytes of src, little-endian. It may read more if src has more.
func load8(src []byte, n int) uint64 {
	if len(src) >= 8 {
		return binary.LittleEndian.Uint64(src)
	}
	var v uint64
	for i, b := range src[:n] {
		v |= uint64(b) << (8 * i)
	}
	return v
}

// checkRow panics if a packed row of cols indices does not have packed bytes.
func checkRow(packed, cols, bits int) {
	if bits < 1 || bits > MaxBits || packed != rowBytes(cols, bits) {
		panic(fmt.Sprintf("palettize: %d columns of %d bits in a row of %d bytes", cols, bits, packed))
	}
}

// lookupRow writes table[i] to dst for every index i of the packed row src.
func lookupRow(dst []float32, src []byte, bits int, table *[1 << MaxBits]float32) {
	switch bits {
	case 8:
		for i, b := range src[:len(dst)] {
			dst[i] = table[b]
		}
		return
	case 4:
		for len(dst) >= 2 {
			b := src[0]
			dst[0], dst[1] = table[b&15], table[b>>4]
			dst, src = dst[2:], src[1:]
		}
	case 2:
		for len(dst) >= 4 {
			b, d := src[0], dst[:4:4]
			d[0], d[1], d[2], d[3] = table[b&3], table[b>>2&3], table[b>>4&3], table[b>>6]
			dst, src = dst[4:], src[1:]
		}
	}
	mask := uint64(1)<<bits - 1
	for len(dst) > 0 {
		n := min(8, len(dst))
		v := load8(src, (n*bits+7)/8)
		for i := range n {
			dst[i] = table[v&mask]
			v >>= bits
		}
		dst, src = dst[n:], src[(n*bits+7)/8:]
	}
}

// packCodes packs the indices of the 16-bit weights codes [rows, cols] into out [rows,
// ceil(cols·bits/8)]. index maps a code to its index.
func packCodes(out []byte, codes []uint16, cols, bits int, index *[1 << 16]uint8) {
	rb := rowBytes(cols, bits)
	for ; len(codes) > 0; codes, out = codes[cols:], out[rb:] {
		src, dst := codes[:cols], out[:rb]
		switch bits {
		case 2:
			for len(src) >= 16 {
				s := src[:16:16]
				lo := uint32(index[s[0]]) | uint32(index[s[1]])<<2 | uint32(index[s[2]])<<4 | uint32(index[s[3]])<<6 |
					uint32(index[s[4]])<<8 | uint32(index[s[5]])<<10 | uint32(index[s[6]])<<12 | uint32(index[s[7]])<<14
				hi := uint32(index[s[8]]) | uint32(index[s[9]])<<2 | uint32(index[s[10]])<<4 | uint32(index[s[11]])<<6 |
					uint32(index[s[12]])<<8 | uint32(index[s[13]])<<10 | uint32(index[s[14]])<<12 | uint32(index[s[15]])<<14
				binary.LittleEndian.PutUint32(dst, lo|hi<<16)
				src, dst = src[16:], dst[4:]
			}
		case 4:
			for len(src) >= 8 {
				s := src[:8:8]
				v := uint32(index[s[0]]) | uint32(index[s[1]])<<4 | uint32(index[s[2]])<<8 | uint32(index[s[3]])<<12 |
					uint32(index[s[4]])<<16 | uint32(index[s[5]])<<20 | uint32(index[s[6]])<<24 | uint32(index[s[7]])<<28
				binary.LittleEndian.PutUint32(dst, v)
				src, dst = src[8:], dst[4:]
			}
		case 8:
			for i, c := range src {
				dst[i] = index[c]
			}
			continue
		}
		for len(src) > 0 {
			n := min(8, len(src))
			v := uint64(0)
			for i, c := range src[:n] {
				v |= uint64(index[c]) << (i * bits)
			}
			bytes := (n*bits + 7) / 8
			for i := range bytes {
				dst[i] = byte(v >> (8 * i))
			}
			src, dst = src[n:], dst[bytes:]
		}
	}
}
