package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// productIn is product in the given arithmetic.
func productIn(c Compute, threads int, x []float32, m int, w *Matrix) []float32 {
	p := NewPool(threads)
	defer p.Close()
	y := make([]float32, m*w.Rows())
	for i := range y {
		y[i] = float32(math.NaN()) // every element must be written
	}
	p.With(c).MulT(y, x, m, w)
	return y
}

// eachLevelWith runs f at every level of this machine that supports the arithmetic.
func eachLevelWith(t *testing.T, c Compute, f func(t *testing.T, level string)) {
	eachLevel(t, func(t *testing.T, level string) {
		if c.available() {
			f(t, level)
		}
	})
}

// int16Formats lists a constructor for each format that I16 applies to.
var int16Formats = []struct {
	name string
	make func(r *rand.Rand, n, k int) *Matrix
}{
	{"LUT4", func(r *rand.Rand, n, k int) *Matrix { return randomLUT(r, n, k, 4, 16).pack() }},
	{"LUT3", func(r *rand.Rand, n, k int) *Matrix { return randomLUT(r, n, k, 3, 32).pack() }},
	{"LUT2", func(r *rand.Rand, n, k int) *Matrix { return randomLUT(r, n, k, 2, 16).pack() }},
	{"LUT1", func(r *rand.Rand, n, k int) *Matrix { return randomLUT(r, n, k, 1, 1000).pack() }},
	{"Int8", func(r *rand.Rand, n, k int) *Matrix {
		q := make([]int8, n*k)
		for i := range q {
			q[i] = int8(r.Uint32())
		}
		return PackInt8(n, k, q, normals(r, n))
	}},
}

// weightsOf returns W in float64.
func weightsOf(w *Matrix) []float64 {
	row, out := make([]float32, w.Cols()), make([]float64, 0, w.Rows()*w.Cols())
	for r := range w.Rows() {
		w.Row(row, r)
		for _, v := range row {
			out = append(out, float64(v))
		}
	}
	return out
}

// errorOf returns the norm of y − X·Wᵀ over that of X·Wᵀ, computed in float64.
func errorOf(y, x []float32, m int, w *Matrix) float64 {
	weights := weightsOf(w)
	var wrong, size float64
	for i := range y {
		var sum float64
		for c, v := range x[i/w.Rows()*w.Cols():][:w.Cols()] {
			sum += float64(v) * weights[i%w.Rows()*w.Cols()+c]
		}
		d := float64(y[i]) - sum
		wrong += d * d
		size += sum * sum
	}
	return math.Sqrt(wrong / size)
}

// TestInt16SameBits compares every level with the Go twin bit by bit, for sizes near every block
// boundary and for several numbers of threads and rows.
func TestInt16SameBits(t *testing.T) {
	before := Level()
	defer selectLevel(t, before)
	r := newRand(21)
	for _, f := range int16Formats {
		for _, s := range [][2]int{{1, 1}, {16, 16}, {5, 7}, {33, 31}, {48, 128}, {17, 129}, {130, 265}, {144, 320}, {257, 513}} {
			n, k := s[0], s[1]
			w := f.make(r, n, k)
			const maxM = 30
			x := normals(r, maxM*k)
			selectLevel(t, "generic")
			want := productIn(I16, 1, x, maxM, w)
			if e := errorOf(want, x, maxM, w); e > 1e-3 {
				t.Fatalf("%s %v: relative error %v", f.name, s, e)
			}
			for _, lv := range Levels() {
				selectLevel(t, lv)
				if !I16.available() {
					continue
				}
				for _, m := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 29, maxM} {
					first := maxM - m
					got := productIn(I16, 1+m%3, x[first*k:], m, w)
					sameBits(t, fmt.Sprintf("%s %v, %s, %d rows", f.name, s, lv, m), got, want[first*n:])
				}
			}
		}
	}
}

// TestInt16Error bounds the error of I16, for normally distributed activations and for activations
// with one column a thousand times larger.
func TestInt16Error(t *testing.T) {
	r := newRand(22)
	const m, n, k = 8, 64, 1024
	for _, f := range int16Formats {
		w := f.make(r, n, k)
		x := normals(r, m*k)
		if e := errorOf(productIn(I16, 1, x, m, w), x, m, w); e > 3e-4 {
			t.Errorf("%s: relative error %v", f.name, e)
		}
		for i := range m {
			x[i*k+37] *= 1000
		}
		if e := errorOf(productIn(I16, 1, x, m, w), x, m, w); e > 3e-4 {
			t.Errorf("%s with an outlier: relative error %v", f.name, e)
		}
	}
}

// TestInt16StaysIn32Bits computes the largest possible sums: all products of a block have the largest
// magnitude and the same sign.
func TestInt16StaysIn32Bits(t *testing.T) {
	const n, k = 16, 512
	eachLevelWith(t, I16, func(t *testing.T, _ string) {
		for _, value := range []float32{1, 3e-5, 7e10} {
			for _, w := range []*Matrix{
				stored{rows: n, cols: k, bits: 4, group: 16, indices: make([]byte, n*k/2), lut: make([]uint16, 16)}.withLargest(0).pack(),
				stored{rows: n, cols: k, bits: 2, group: 16, indices: make([]byte, n*k/4), lut: make([]uint16, 4)}.withLargest(0).pack(),
				PackInt8(n, k, filled(n*k, int8(-128)), filled(n, float32(1))),
			} {
				// All equal, a single one, and one among many small ones.
				equal, one, most := filled(k, value), make([]float32, k), filled(k, value/32767)
				one[5], most[5] = value, value
				for _, x := range [][]float32{equal, one, most} {
					if e := errorOf(productIn(I16, 1, x, 1, w), x, 1, w); e > 1e-3 {
						t.Errorf("%v: relative error %v", value, e)
					}
				}
			}
		}
	})
}

// withLargest sets one table entry to the largest half-precision value, the others to its negative.
func (s stored) withLargest(entry int) stored {
	for i := range s.lut {
		s.lut[i] = 0xfbff
	}
	s.lut[entry] = 0x7bff
	return s
}

func filled[T any](n int, v T) []T {
	x := make([]T, n)
	for i := range x {
		x[i] = v
	}
	return x
}

// TestInt16NotFinite checks that NaN or an infinity in X makes its own row NaN and changes no other, and
// that a matrix with a table that is not finite is multiplied in F32.
func TestInt16NotFinite(t *testing.T) {
	r := newRand(23)
	const m, n, k = 3, 32, 300
	eachLevelWith(t, I16, func(t *testing.T, _ string) {
		w := randomLUT(r, n, k, 4, 16).pack()
		clean := normals(r, m*k)
		want := productIn(I16, 1, clean, m, w)
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			x := append([]float32(nil), clean...)
			x[k+290] = float32(bad)
			got := productIn(I16, 1, x, m, w)
			sameBits(t, "first row", got[:n], want[:n])
			sameBits(t, "last row", got[2*n:], want[2*n:])
			for _, v := range got[n : 2*n] {
				if v == v {
					t.Fatalf("%v in X gives %v", bad, v)
				}
			}
		}
		s := randomLUT(r, n, k, 4, 16)
		s.lut[3] = 0x7c00 // infinite
		sameBits(t, "infinite table entry", productIn(I16, 1, clean, m, s.pack()), product(1, clean, m, s.pack()))
	})
}

// TestInt16Add checks that MulTAdd adds the finished product.
func TestInt16Add(t *testing.T) {
	r := newRand(24)
	const m, n, k = 5, 40, 140
	eachLevelWith(t, I16, func(t *testing.T, _ string) {
		for _, f := range int16Formats {
			w, x, y := f.make(r, n, k), normals(r, m*k), normals(r, m*n)
			want := productIn(I16, 1, x, m, w)
			for i := range want {
				want[i] += y[i]
			}
			p := NewPool(2)
			p.With(I16).MulTAdd(y, x, m, w)
			p.Close()
			sameBits(t, f.name, y, want)
		}
	})
}

// FuzzInt16 compares the kernels with their twins for arbitrary activations and sizes.
func FuzzInt16(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, uint8(3), uint16(40), uint8(0))
	f.Add([]byte{0, 0, 0x80, 0x7f, 0xff, 0xff, 0x7f, 0x7f}, uint8(17), uint16(300), uint8(2))
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0x7f, 0xff}, uint8(15), uint16(129), uint8(4))
	f.Fuzz(func(t *testing.T, data []byte, rows uint8, cols uint16, kind uint8) {
		k, n, m := int(cols)%600+1, int(rows)%40+1, len(data)%17+1
		r := newRand(uint64(cols))
		w := int16Formats[int(kind)%len(int16Formats)].make(r, n, k)
		x := normals(r, m*k)
		for i := 0; i+4 <= len(data); i += 4 {
			bits := uint32(data[i]) | uint32(data[i+1])<<8 | uint32(data[i+2])<<16 | uint32(data[i+3])<<24
			x[int(bits)%len(x)] = math.Float32frombits(bits)
		}
		before := Level()
		defer selectLevel(t, before)
		selectLevel(t, "generic")
		want := productIn(I16, 1, x, m, w)
		for _, lv := range Levels() {
			selectLevel(t, lv)
			if I16.available() {
				sameBits(t, lv, productIn(I16, 2, x, m, w), want)
			}
		}
	})
}
