package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// stored is a palettized matrix in its stored form.
type stored struct {
	rows, cols, bits, group int
	indices                 []byte
	lut, rowScale           []uint16
}

func (s stored) pack() *Matrix {
	return PackLUT(s.rows, s.cols, s.bits, s.group, s.indices, s.lut, s.rowScale)
}

// scales returns the factors of the rows, or nil.
func (s stored) scales() []float32 {
	if s.rowScale == nil {
		return nil
	}
	f := make([]float32, s.rows)
	F16ToF32(f, s.rowScale)
	return f
}

// plain returns the weights by the definition of the stored form, without the factors of rows. It is
// independent of the code of the package.
func (s stored) plain() []float32 {
	rowBytes := (s.cols*s.bits + 7) / 8
	out := make([]float32, 0, s.rows*s.cols)
	for r := range s.rows {
		for c := range s.cols {
			idx := 0
			for b := range s.bits {
				at := c*s.bits + b
				idx |= int(s.indices[r*rowBytes+at/8]) >> (at % 8) & 1 << b
			}
			out = append(out, halfToFloat(s.lut[r/s.group<<s.bits+idx]))
		}
	}
	return out
}

func randomLUT(r *rand.Rand, rows, cols, bits, group int) stored {
	s := stored{rows: rows, cols: cols, bits: bits, group: group}
	s.indices = make([]byte, rows*((cols*bits+7)/8))
	for i := range s.indices {
		s.indices[i] = byte(r.Uint32())
	}
	s.lut = make([]uint16, (rows+group-1)/group<<bits)
	F32ToF16(s.lut, normals(r, len(s.lut)))
	s.rowScale = make([]uint16, rows)
	F32ToF16(s.rowScale, normals(r, rows))
	return s
}

// checkMatrix requires that w denotes exactly the values plain[r][c]·scale[r]: in Row, and in products,
// which must have the bits of the product with plain packed as float32, times the scale. A nil scale
// means factors of 1.
func checkMatrix(t *testing.T, what string, w *Matrix, plain, scale []float32) {
	t.Helper()
	rows, cols := w.Rows(), w.Cols()
	row := make([]float32, cols)
	for r := range rows {
		w.Row(row, r)
		want := append([]float32(nil), plain[r*cols:][:cols]...)
		if scale != nil {
			mulScalarGo(want, scale[r])
		}
		sameBits(t, fmt.Sprintf("%s: row %d", what, r), row, want)
	}
	packed := PackF32(rows, cols, plain)
	x := normals(newRand(9), 15*cols)
	for _, m := range []int{1, 2, 3, 4, 5, 15} {
		want := product(1, x, m, packed)
		for i := 0; i < m && scale != nil; i++ {
			mulToGo(want[i*rows:][:rows], scale)
		}
		sameBits(t, fmt.Sprintf("%s: %d rows of X", what, m), product(2, x, m, w), want)
	}
}

var matrixShapes = [][2]int{{1, 1}, {16, 16}, {5, 7}, {16, 8}, {33, 31}, {48, 256}, {130, 265}, {257, 300}}

func TestDenseFormats(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		r := newRand(6)
		for _, s := range matrixShapes {
			n := s[0] * s[1]
			half, dense := make([]uint16, n), make([]float32, n)
			F32ToF16(half, normals(r, n))
			F16ToF32(dense, half)
			checkMatrix(t, fmt.Sprint("F16 ", s), PackF16(s[0], s[1], half), dense, nil)
			F32ToBF16(half, normals(r, n))
			BF16ToF32(dense, half)
			checkMatrix(t, fmt.Sprint("BF16 ", s), PackBF16(s[0], s[1], half), dense, nil)
			q, scale := make([]int8, n), normals(r, s[0])
			for i := range q {
				q[i] = int8(r.Uint32())
				dense[i] = float32(q[i])
			}
			checkMatrix(t, fmt.Sprint("Int8 ", s), PackInt8(s[0], s[1], q, scale), dense, scale)
		}
	})
}

func TestLUTFormats(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		r := newRand(7)
		for bits := 1; bits <= 8; bits++ {
			for _, group := range []int{16, 32, 8, 5, 1000} {
				for i, s := range matrixShapes {
					l := randomLUT(r, s[0], s[1], bits, group)
					if i%2 == 1 {
						l.rowScale = nil
					}
					checkMatrix(t, fmt.Sprintf("%d bit, groups of %d, %v", bits, group, s), l.pack(), l.plain(), l.scales())
				}
			}
		}
	})
}

// TestLUTMemory checks the size in memory of the packed layouts.
func TestLUTMemory(t *testing.T) {
	const rows, cols = 256, 1024
	for bits, limit := range map[int]float64{1: 2.2, 2: 2.2, 3: 4.2, 4: 4.2, 8: 8.7} {
		w := randomLUT(newRand(8), rows, cols, bits, 16).pack()
		if got := float64(w.Bytes()) * 8 / (rows * cols); got > limit {
			t.Errorf("%d bit takes %.2f bits per weight, want at most %.2f", bits, got, limit)
		}
	}
}

// TestWidenTwins compares each widening kernel with its Go twin, including infinities and NaN in the
// tables.
func TestWidenTwins(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		lv := currentISA()
		r := newRand(10)
		for _, cols := range []int{1, 2, 7, 16, 33, 256} {
			n := cols * PanelRows
			scale := normals(r, PanelRows)
			got, want := make([]float32, n), make([]float32, n)
			q := make([]int8, n)
			for i := range q {
				q[i] = int8(r.Uint32())
			}
			widenInt8(lv, got, q, scale)
			widenInt8Go(want, q, scale)
			sameBits(t, "Int8", got, want)

			u := make([]uint8, n)
			table, base := normals(r, 16<<8), make([]int32, PanelRows)
			table[3] = float32(math.Inf(-1))
			table[300] = float32(math.NaN())
			for i := range u {
				u[i] = uint8(r.Uint32())
				base[i%PanelRows] = int32(r.IntN(16)) << 8
			}
			widenLUT8(lv, got, u, table, base, scale)
			widenLUT8Go(want, u, table, base, scale)
			sameBits(t, "LUT8", got, want)

			for _, field := range []int{2, 4} {
				src := make([]uint32, n)
				for i := range src {
					src[i] = r.Uint32()
				}
				half := make([]uint16, PanelRows)
				F32ToF16(half, normals(r, PanelRows))
				half[1], half[2], half[3] = 0x0001, 0xfc00, 0x7e01 // subnormal, −Inf, NaN
				tab := halfTable(half, field)
				got, want := make([]float32, n*32/field), make([]float32, n*32/field)
				widenLUT(lv, field, got, src, tab, scale)
				widenLUTGo(field, want, src, tab, scale)
				sameBits(t, "LUT", got, want)
			}
		}
	})
}

// TestTransposeTwin compares the packing of strips and panels with its definition, and checks that it
// writes within its buffer only.
func TestTransposeTwin(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		lv := currentISA()
		r := newRand(11)
		for rows := 1; rows <= 16; rows++ {
			for _, n := range []int{1, 7, 8, 15, 16, 17, 40, 256} {
				for _, step := range []int{rows, 16} {
					if step == rows && rows > gemms(lv).mr {
						continue
					}
					ld := n + r.IntN(4)
					src := normals(r, (rows-1)*ld+n)
					dst := make([]float32, n*step+PanelRows+1)
					dst[len(dst)-1] = 77
					transpose(lv, dst[:len(dst)-1], step, src, ld, rows, n)
					for k := range n {
						for i := range rows {
							if dst[k*step+i] != src[i*ld+k] {
								t.Fatalf("%d rows, n %d, step %d: [%d,%d] is %v, want %v", rows, n, step, k, i, dst[k*step+i], src[i*ld+k])
							}
						}
					}
					if dst[len(dst)-1] != 77 {
						t.Fatalf("%d rows, n %d, step %d: wrote beyond the buffer", rows, n, step)
					}
				}
			}
		}
	})
}
