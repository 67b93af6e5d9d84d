package palettize

import (
	"bytes"
	"math"
	mathbits "math/bits"
	"math/rand/v2"
	"strings"
	"testing"
)

// bitAt reads the index of column c from a packed row, one bit at a time.
func bitAt(row []byte, c, bits int) (v uint8) {
	for b := range bits {
		at := c*bits + b
		v |= row[at/8] >> (at % 8) & 1 << b
	}
	return v
}

func TestPackRowIsLeastSignificantBitFirst(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for bits := 1; bits <= MaxBits; bits++ {
		for cols := range 70 {
			src := make([]uint8, cols)
			for i := range src {
				src[i] = uint8(r.IntN(1 << bits))
			}
			packed := bytes.Repeat([]byte{0xff}, rowBytes(cols, bits))
			PackRow(packed, src, bits)
			for c, want := range src {
				if got := bitAt(packed, c, bits); got != want {
					t.Fatalf("%d bits, %d columns: column %d packs to %d, want %d", bits, cols, c, got, want)
				}
			}
			if n := len(packed); n > 0 && cols*bits%8 != 0 && packed[n-1]>>(cols*bits%8) != 0 {
				t.Fatalf("%d bits, %d columns: bits after the last column are set", bits, cols)
			}
			back := make([]uint8, cols)
			UnpackRow(back, packed, bits)
			if !bytes.Equal(back, src) {
				t.Fatalf("%d bits: %v unpacks to %v", bits, src, back)
			}
		}
	}
}

func TestRowBytesNearTheLargestInt(t *testing.T) {
	for bits := 1; bits <= MaxBits; bits++ {
		for _, cols := range []int{1, 7, 8, 9, 15, 1000, math.MaxInt} {
			hi, lo := mathbits.Mul64(uint64(cols), uint64(bits))
			lo, carry := mathbits.Add64(lo, 7, 0)
			want := int((hi+carry)<<61 | lo>>3)
			m := Matrix{Rows: 1, Cols: cols, Bits: bits, GroupRows: 1}
			if got := m.RowBytes(); got != want || got < 1 {
				t.Errorf("%d columns at %d bits: rows of %d bytes, want %d", cols, bits, got, want)
			}
		}
	}
}

// randomMatrix returns a valid matrix of random content.
func randomMatrix(r *rand.Rand, rows, cols, bits, group int, scaled bool) *Matrix {
	m := &Matrix{Rows: rows, Cols: cols, Bits: bits, GroupRows: group}
	idx := make([]uint8, cols)
	for range rows {
		for c := range idx {
			idx[c] = uint8(r.IntN(1 << bits))
		}
		row := make([]byte, m.RowBytes())
		PackRow(row, idx, bits)
		m.Indices = append(m.Indices, row...)
	}
	for range m.Groups() << bits {
		h, _ := roundF16(r.NormFloat64())
		m.LUT = append(m.LUT, h)
	}
	for range rows {
		if h, _ := roundF16(0.01 + r.Float64()); scaled {
			m.RowScale = append(m.RowScale, h)
		}
	}
	return m
}

func TestDequantizeRows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for bits := 1; bits <= MaxBits; bits++ {
		for _, cols := range []int{1, 5, 8, 37} {
			for _, scaled := range []bool{false, true} {
				m := randomMatrix(r, 11, cols, bits, 4, scaled)
				if err := m.Validate(); err != nil {
					t.Fatal(err)
				}
				got := make([]float32, 7*cols)
				m.DequantizeRows(got, 3, 10)
				for i := range got {
					row, c := 3+i/cols, i%cols
					want := f16Value(m.LUT[row/4<<bits+int(bitAt(m.Indices[row*m.RowBytes():], c, bits))])
					if scaled {
						want *= f16Value(m.RowScale[row])
					}
					if float64(got[i]) != want {
						t.Fatalf("%d bits, scaled %v: weight (%d, %d) is %v, want %v", bits, scaled, row, c, got[i], want)
					}
				}
			}
		}
	}
}

func TestStoredBits(t *testing.T) {
	m := randomMatrix(rand.New(rand.NewPCG(1, 1)), 20, 13, 3, 16, true)
	if got, want := m.StoredBits(), int64(8*len(m.Indices)+16*len(m.LUT)+16*len(m.RowScale)); got != want {
		t.Errorf("StoredBits() = %d, the stored form has %d", got, want)
	}
}

func TestValidateRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(m *Matrix)
		want   string
	}{
		{"no rows", func(m *Matrix) { m.Rows = 0 }, "0 rows"},
		{"negative columns", func(m *Matrix) { m.Cols = -1 }, "-1 columns"},
		{"no bits", func(m *Matrix) { m.Bits = 0 }, "0 bits"},
		{"nine bits", func(m *Matrix) { m.Bits = 9 }, "9 bits"},
		{"no group", func(m *Matrix) { m.GroupRows = 0 }, "groups of 0 rows"},
		{"overflow", func(m *Matrix) { m.Rows, m.Cols = math.MaxInt/2, math.MaxInt/2 }, "too large"},
		{"wide overflow", func(m *Matrix) { m.Rows, m.Cols = 1<<33, 1<<33 }, "too large"},
		{"short indices", func(m *Matrix) { m.Indices = m.Indices[1:] }, "bytes of indices"},
		{"long indices", func(m *Matrix) { m.Indices = append(m.Indices, 0) }, "bytes of indices"},
		{"missing table", func(m *Matrix) { m.LUT = m.LUT[:8] }, "8 look-up table entries"},
		{"missing scale", func(m *Matrix) { m.RowScale = m.RowScale[1:] }, "19 row scales"},
		{"infinite entry", func(m *Matrix) { m.LUT[11] = 0xfc00 }, "entry 3 of look-up table 1 is -Inf"},
		{"entry NaN", func(m *Matrix) { m.LUT[0] = 0x7e00 }, "is NaN"},
		{"infinite scale", func(m *Matrix) { m.RowScale[2] = 0x7c00 }, "scale of row 2 is +Inf"},
		{"negative scale", func(m *Matrix) { m.RowScale[0] = 0xbc00 }, "scale of row 0 is -1"},
		{"padding", func(m *Matrix) { m.Indices[5*4-1] |= 0x80 }, "row 3 of the indices"},
	} {
		m := randomMatrix(rand.New(rand.NewPCG(1, 1)), 20, 13, 3, 16, true)
		tc.damage(m)
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, err, tc.want)
		}
	}
}

func TestGroupsOfAnUnvalidatedMatrix(t *testing.T) {
	m := Matrix{Rows: 5, Cols: -3, Bits: 200}
	if m.Groups() != 0 || m.RowBytes() != 0 {
		t.Errorf("%d groups, rows of %d bytes, want 0 and 0", m.Groups(), m.RowBytes())
	}
}

func FuzzPackRow(f *testing.F) {
	f.Add(uint8(3), []byte{1, 2, 3, 4, 5, 6, 7, 0, 1})
	f.Add(uint8(8), []byte("abc"))
	f.Fuzz(func(t *testing.T, bits uint8, src []byte) {
		b := 1 + int(bits)%MaxBits
		for i := range src {
			src[i] &= 1<<b - 1
		}
		packed, back := make([]byte, rowBytes(len(src), b)), make([]byte, len(src))
		PackRow(packed, src, b)
		UnpackRow(back, packed, b)
		if !bytes.Equal(src, back) {
			t.Fatalf("%d bits: %v becomes %v", b, src, back)
		}
		for c, want := range src {
			if got := bitAt(packed, c, b); got != want {
				t.Fatalf("%d bits: column %d packs to %d, want %d", b, c, got, want)
			}
		}
	})
}

// FuzzMatrix reads invalid matrices: what Validate accepts must be readable.
func FuzzMatrix(f *testing.F) {
	m := randomMatrix(rand.New(rand.NewPCG(1, 1)), 5, 13, 3, 2, true)
	f.Add(m.Rows, m.Cols, m.Bits, m.GroupRows, m.Indices, f16Bytes(m.LUT), f16Bytes(m.RowScale))
	f.Add(math.MaxInt, math.MaxInt, 8, 1, []byte{1}, []byte{}, []byte{})
	f.Add(1, 9, 1, math.MaxInt, []byte{1, 1}, []byte{0, 0, 0, 0x3c}, []byte{})
	f.Fuzz(func(t *testing.T, rows, cols, bits, group int, indices, lut, scale []byte) {
		m := &Matrix{Rows: rows, Cols: cols, Bits: bits, GroupRows: group, Indices: indices, LUT: f16Words(lut), RowScale: f16Words(scale)}
		m.Groups()
		m.RowBytes()
		if m.Validate() != nil {
			return
		}
		m.StoredBits()
		dst := make([]float32, rows*cols)
		m.DequantizeRows(dst, 0, rows)
		for i, v := range dst {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("weight %d of a valid matrix is %v", i, v)
			}
		}
	})
}

func f16Bytes(w []uint16) (b []byte) {
	for _, h := range w {
		b = append(b, byte(h), byte(h>>8))
	}
	return b
}

func f16Words(b []byte) (w []uint16) {
	for ; len(b) > 1; b = b[2:] {
		w = append(w, uint16(b[0])|uint16(b[1])<<8)
	}
	return w
}
