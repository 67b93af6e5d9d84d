package ggml

import "encoding/binary"

// The layouts of blocks, from the structures in ggml-common.h and the loops of the functions
// dequantize_row_* in ggml-quants.c.

var le = binary.LittleEndian

// spread adds fields of width bits to codes, moved up by shift. A group of stride bytes holds
// the fields of stride*8/width consecutive codes: the lowest bits of its bytes those of the
// first stride codes, the next bits those of the next.
func spread(codes []uint8, src []byte, stride, width, shift int) {
	mask := byte(1<<width - 1)
	for g := 0; g < len(src); g += stride {
		group := src[g:][:stride]
		for low := 0; low < 8; low += width {
			for i, v := range group {
				codes[i] |= v >> low & mask << shift
			}
			codes = codes[stride:]
		}
	}
}

// gather is the inverse of spread. dst is zero before.
func gather(dst []byte, codes []uint8, stride, width, shift int) {
	mask := byte(1<<width - 1)
	for g := 0; g < len(dst); g += stride {
		group := dst[g:][:stride]
		for low := 0; low < 8; low += width {
			for i := range group {
				group[i] |= codes[i] >> shift & mask << low
			}
			codes = codes[stride:]
		}
	}
}

func unpackQ4_0(b *Block, src []byte) {
	b.D = le.Uint16(src)
	spread(b.Codes[:], src[2:], 16, 4, 0)
}

func packQ4_0(dst []byte, b *Block) {
	le.PutUint16(dst, b.D)
	gather(dst[2:], b.Codes[:], 16, 4, 0)
}

func unpackQ4_1(b *Block, src []byte) {
	b.D, b.DMin = le.Uint16(src), le.Uint16(src[2:])
	spread(b.Codes[:], src[4:], 16, 4, 0)
}

func packQ4_1(dst []byte, b *Block) {
	le.PutUint16(dst, b.D)
	le.PutUint16(dst[2:], b.DMin)
	gather(dst[4:], b.Codes[:], 16, 4, 0)
}

// fifthBits adds bit i of a word as the fifth bit of code i.
func fifthBits(codes []uint8, word uint32) {
	for i := range codes {
		codes[i] |= uint8(word>>i&1) << 4
	}
}

// fifthWord is the inverse of fifthBits.
func fifthWord(codes []uint8) (word uint32) {
	for i, c := range codes {
		word |= uint32(c>>4&1) << i
	}
	return word
}

func unpackQ5_0(b *Block, src []byte) {
	b.D = le.Uint16(src)
	spread(b.Codes[:], src[6:], 16, 4, 0)
	fifthBits(b.Codes[:32], le.Uint32(src[2:]))
}

func packQ5_0(dst []byte, b *Block) {
	le.PutUint16(dst, b.D)
	le.PutUint32(dst[2:], fifthWord(b.Codes[:32]))
	gather(dst[6:], b.Codes[:], 16, 4, 0)
}

func unpackQ5_1(b *Block, src []byte) {
	b.D, b.DMin = le.Uint16(src), le.Uint16(src[2:])
	spread(b.Codes[:], src[8:], 16, 4, 0)
	fifthBits(b.Codes[:32], le.Uint32(src[4:]))
}

func packQ5_1(dst []byte, b *Block) {
	le.PutUint16(dst, b.D)
	le.PutUint16(dst[2:], b.DMin)
	le.PutUint32(dst[4:], fifthWord(b.Codes[:32]))
	gather(dst[8:], b.Codes[:], 16, 4, 0)
}

// Q8_0 stores levels as int8. Flipping the sign bit turns them into codes.
func unpackQ8_0(b *Block, src []byte) {
	b.D = le.Uint16(src)
	for i, v := range src[2:] {
		b.Codes[i] = v ^ 0x80
	}
}

func packQ8_0(dst []byte, b *Block) {
	le.PutUint16(dst, b.D)
	for i := range dst[2:] {
		dst[2+i] = b.Codes[i] ^ 0x80
	}
}

// Q2_K: 16 bytes of scales (low 4 bits) and mins, 64 of codes, d, dmin.
func unpackQ2_K(b *Block, src []byte) {
	for i, v := range src[:16] {
		b.Scales[i], b.Mins[i] = int8(v&15), v>>4
	}
	spread(b.Codes[:], src[16:80], 32, 2, 0)
	b.D, b.DMin = le.Uint16(src[80:]), le.Uint16(src[82:])
}

func packQ2_K(dst []byte, b *Block) {
	for i := range dst[:16] {
		dst[i] = byte(b.Scales[i])&15 | b.Mins[i]<<4
	}
	gather(dst[16:80], b.Codes[:], 32, 2, 0)
	le.PutUint16(dst[80:], b.D)
	le.PutUint16(dst[82:], b.DMin)
}

// Q3_K: 32 bytes of the third bits of the codes, 64 of their low bits, 12 of scales, d. A scale
// is stored plus 32: its low 4 bits in the first 8 bytes, its high 2 bits in the last 4.
func unpackQ3_K(b *Block, src []byte) {
	spread(b.Codes[:], src[:32], 32, 1, 2)
	spread(b.Codes[:], src[32:96], 32, 2, 0)
	var s [16]uint8
	spread(s[:], src[96:104], 8, 4, 0)
	spread(s[:], src[104:108], 4, 2, 4)
	for i, v := range s {
		b.Scales[i] = int8(v) - 32
	}
	b.D = le.Uint16(src[108:])
}

func packQ3_K(dst []byte, b *Block) {
	gather(dst[:32], b.Codes[:], 32, 1, 2)
	gather(dst[32:96], b.Codes[:], 32, 2, 0)
	var s [16]uint8
	for i, v := range b.Scales {
		s[i] = uint8(v + 32)
	}
	gather(dst[96:104], s[:], 8, 4, 0)
	gather(dst[104:108], s[:], 4, 2, 4)
	le.PutUint16(dst[108:], b.D)
}

// scaleBits sets 8 scales and 8 mins of 6 bits from the 12 bytes of Q4_K and Q5_K. Bytes 0-3 and
// 4-7 hold scales and mins 0-3 in their low 6 bits, and the high 2 bits of scales and mins 4-7.
// Bytes 8-11 hold the low 4 bits of those.
func scaleBits(b *Block, src []byte) {
	for i := range 4 {
		b.Scales[i], b.Mins[i] = int8(src[i]&63), src[4+i]&63
		b.Scales[4+i] = int8(src[8+i]&15 | src[i]>>6<<4)
		b.Mins[4+i] = src[8+i]>>4 | src[4+i]>>6<<4
	}
}

// putScaleBits is the inverse of scaleBits.
func putScaleBits(dst []byte, b *Block) {
	for i := range 4 {
		s, m := uint8(b.Scales[4+i]), b.Mins[4+i]
		dst[i] = uint8(b.Scales[i])&63 | s>>4<<6
		dst[4+i] = b.Mins[i]&63 | m>>4<<6
		dst[8+i] = s&15 | m<<4
	}
}

// Q4_K: d, dmin, 12 bytes of scales and mins, 128 of codes.
func unpackQ4_K(b *Block, src []byte) {
	b.D, b.DMin = le.Uint16(src), le.Uint16(src[2:])
	scaleBits(b, src[4:16])
	spread(b.Codes[:], src[16:], 32, 4, 0)
}

func packQ4_K(dst []byte, b *Block) {
	le.PutUint16(dst, b.D)
	le.PutUint16(dst[2:], b.DMin)
	putScaleBits(dst[4:16], b)
	gather(dst[16:], b.Codes[:], 32, 4, 0)
}

// Q5_K: as Q4_K, with 32 bytes of the fifth bits of the codes before their low bits.
func unpackQ5_K(b *Block, src []byte) {
	b.D, b.DMin = le.Uint16(src), le.Uint16(src[2:])
	scaleBits(b, src[4:16])
	spread(b.Codes[:], src[16:48], 32, 1, 4)
	spread(b.Codes[:], src[48:], 32, 4, 0)
}

func packQ5_K(dst []byte, b *Block) {
	le.PutUint16(dst, b.D)
	le.PutUint16(dst[2:], b.DMin)
	putScaleBits(dst[4:16], b)
	gather(dst[16:48], b.Codes[:], 32, 1, 4)
	gather(dst[48:], b.Codes[:], 32, 4, 0)
}

// Q6_K: 128 bytes of the low 4 bits of the codes, 64 of their high 2 bits, 16 scales, d.
func unpackQ6_K(b *Block, src []byte) {
	spread(b.Codes[:], src[:128], 64, 4, 0)
	spread(b.Codes[:], src[128:192], 32, 2, 4)
	for i, v := range src[192:208] {
		b.Scales[i] = int8(v)
	}
	b.D = le.Uint16(src[208:])
}

func packQ6_K(dst []byte, b *Block) {
	gather(dst[:128], b.Codes[:], 64, 4, 0)
	gather(dst[128:192], b.Codes[:], 32, 2, 4)
	for i, v := range b.Scales {
		dst[192+i] = byte(v)
	}
	le.PutUint16(dst[208:], b.D)
}

// IQ4_XS: d, 2 bytes of the high 2 bits of the scales, 4 of their low 4 bits, 128 of codes. A
// scale is stored plus 32.
func unpackIQ4_XS(b *Block, src []byte) {
	b.D = le.Uint16(src)
	high := le.Uint16(src[2:])
	for i := range 8 {
		low := src[4+i/2] >> (i % 2 * 4) & 15
		b.Scales[i] = int8(low|uint8(high>>(2*i)&3)<<4) - 32
	}
	spread(b.Codes[:], src[8:], 16, 4, 0)
}

func packIQ4_XS(dst []byte, b *Block) {
	le.PutUint16(dst, b.D)
	var high uint16
	for i := range 8 {
		s := uint8(b.Scales[i] + 32)
		dst[4+i/2] |= s & 15 << (i % 2 * 4)
		high |= uint16(s>>4&3) << (2 * i)
	}
	le.PutUint16(dst[2:], high)
	gather(dst[8:], b.Codes[:], 16, 4, 0)
}
