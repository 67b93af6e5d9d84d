package palettize

import (
	"encoding/binary"
	"math"
)

// palette is a look-up table made ready for assigning values to entries.
type palette struct {
	n     int                   // distinct entries
	value [1 << MaxBits]float64 // [n] the distinct entries, ascending
	first [1 << MaxBits]uint8   // [n] index of the first entry of that value
	above [1 << MaxBits]float64 // values past above[j] are nearer to j+1 than to j; +Inf from n-1 on
}

// set takes the ascending table lut.
func (p *palette) set(lut []uint16) {
	p.n = 0
	for i, e := range lut {
		if v := f16Value(e); p.n == 0 || v != p.value[p.n-1] {
			p.value[p.n], p.first[p.n] = v, uint8(i)
			p.n++
		}
	}
	for j := range p.above {
		p.above[j] = math.Inf(1)
		if j+1 < p.n {
			p.above[j] = (p.value[j] + p.value[j+1]) / 2 // exact: at most 42 bits
		}
	}
}

// measure assigns the ascending values of a histogram, writes their indices to
// index by code unless codes is nil, and sums the error.
func (p *palette) measure(values, counts []float64, codes []uint16, index *[1 << 16]uint8) (r Report) {
	j := 0
	for i, v := range values {
		for v > p.above[j] {
			j++
		}
		d := v - p.value[j]
		r.SquaredError += counts[i] * (d * d)
		r.SquaredNorm += counts[i] * (v * v)
		if codes != nil {
			index[codes[i]] = p.first[j]
		}
	}
	return r
}

// packCodes packs the indices of 16-bit weights [rows, cols] into out [rows,
// ceil(cols·bits/8)].
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
