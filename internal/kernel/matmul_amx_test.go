package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// backIn computes Y = X·W by one call of Mul on a pool of its own.
func backIn(c Compute, threads int, x []float32, m int, w *Matrix) []float32 {
	p := NewPool(threads)
	defer p.Close()
	y := make([]float32, m*w.Cols())
	for i := range y {
		y[i] = float32(math.NaN())
	}
	p.With(c).Mul(y, x, m, w)
	return y
}

// tileFormats lists a constructor for each way in which a matrix is converted to pairs of bfloat16.
var tileFormats = append([]struct {
	name string
	make func(r *rand.Rand, n, k int) *Matrix
}{
	{"F32", func(r *rand.Rand, n, k int) *Matrix { return PackF32(n, k, normals(r, n*k)) }},
	{"F16", func(r *rand.Rand, n, k int) *Matrix {
		h := make([]uint16, n*k)
		F32ToF16(h, normals(r, n*k))
		return PackF16(n, k, h)
	}},
	{"BF16", func(r *rand.Rand, n, k int) *Matrix {
		h := make([]uint16, n*k)
		F32ToBF16(h, normals(r, n*k))
		return PackBF16(n, k, h)
	}},
	{"LUT6", func(r *rand.Rand, n, k int) *Matrix { return randomLUT(r, n, k, 6, 16).pack() }},
}, int16Formats...)

var tileShapes = [][2]int{{1, 1}, {16, 16}, {5, 7}, {33, 31}, {48, 33}, {17, 129}, {130, 265}, {144, 320}, {40, 1030}}

// checkProducts compares Y = X·Wᵀ and Y = X·W with float64 products of the operands rounded by round,
// relative to the sum of magnitudes, and requires that a row does not depend on other rows.
func checkProducts(t *testing.T, c Compute, tolerance float64, round func(float64) float64) {
	eachLevelWith(t, c, func(t *testing.T, level string) {
		r := newRand(31)
		const maxM = 37
		for _, f := range tileFormats {
			for _, s := range tileShapes {
				n, k := s[0], s[1]
				if level == "generic" && n*k > 20000 {
					continue
				}
				w := f.make(r, n, k)
				weights := weightsOf(w)
				for _, back := range []bool{false, true} {
					in, out, product := k, n, productIn
					if back {
						in, out, product = n, k, backIn
					}
					x := normals(r, maxM*in)
					y := product(c, 1, x, maxM, w)
					for i, got := range y {
						var want, size float64
						row, col := i/out, i%out
						for j := range in {
							at, scale := col*k+j, 1.0
							if back {
								at = j*k + col
							} else if w.scaled { // the factor of a row is applied to the finished sum
								scale = float64(w.scale[col])
							}
							v := weights[at]
							if scale != 1 { // what it multiplies is a half or an integer
								v = float64(halfToFloat(floatToHalf(float32(v / scale))))
							}
							p := round(float64(x[row*in+j])) * round(v) * scale
							want += p
							size += math.Abs(p)
						}
						if d := math.Abs(float64(got) - want); !(d <= tolerance*size+1e-30) {
							t.Fatalf("%s %v back %v: element %d is %v, want %v", f.name, s, back, i, got, want)
						}
					}
					for _, m := range []int{1, 2, 3, 15, 16, 17, 32, 33} {
						first := maxM - m
						sameBits(t, fmt.Sprintf("%s %v back %v, %d rows", f.name, s, back, m),
							product(c, 1+m%3, x[first*in:], m, w), y[first*out:])
					}
				}
			}
		}
	})
}

func TestSplitProducts(t *testing.T) {
	// Each operand has an error of up to 2^-17, and the product of the low parts is omitted.
	checkProducts(t, Split, 0x1p-15, func(v float64) float64 { return v })
}

func TestBF16Products(t *testing.T) {
	checkProducts(t, BF16, 2e-5, func(v float64) float64 { return float64(bfloatToFloat(floatToBfloat(float32(v)))) })
}

// TestTileAdd checks that MulTAdd and MulAdd add the finished product to Y.
func TestTileAdd(t *testing.T) {
	r := newRand(32)
	const m, n, k = 35, 40, 140
	for _, c := range []Compute{Split, BF16} {
		eachLevelWith(t, c, func(t *testing.T, _ string) {
			for _, f := range tileFormats {
				w := f.make(r, n, k)
				p := NewPool(2)
				for _, back := range []bool{false, true} {
					in, out, product, add := k, n, productIn, p.With(c).MulTAdd
					if back {
						in, out, product, add = n, k, backIn, p.With(c).MulAdd
					}
					x, y := normals(r, m*in), normals(r, m*out)
					want := product(c, 1, x, m, w)
					for i := range want {
						want[i] += y[i]
					}
					add(y, x, m, w)
					for i := range want {
						if d := math.Abs(float64(y[i] - want[i])); d > 1e-4*(1+math.Abs(float64(want[i]))) {
							t.Fatalf("%s, %s, back %v: element %d is %v, want %v", c, f.name, back, i, y[i], want[i])
						}
					}
				}
				p.Close()
			}
		})
	}
}

// anyFloats returns n values with arbitrary bits, including NaN and infinities.
func anyFloats(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = math.Float32frombits(r.Uint32())
		if i%5 == 0 {
			x[i] = math.Float32frombits(r.Uint32() | 0x7f800000)
		}
	}
	return x
}

// TestNarrow compares the conversions with their twins bit by bit; NaN must stay NaN.
func TestNarrow(t *testing.T) {
	r := newRand(33)
	eachLevel(t, func(t *testing.T, _ string) {
		for _, steps := range []int{1, 2, 7} {
			for _, order := range []*[tileCols]uint16{amxAdjacent, amxLUT4, amxLUT2} {
				checkNarrow(t, anyFloats(r, steps*tileCols), order)
			}
		}
	})
}

func checkNarrow(t *testing.T, x []float32, order *[tileCols]uint16) {
	t.Helper()
	lv, steps := currentISA(), len(x)/tileCols
	same := func(what string, got, want []uint16) {
		for i := range want {
			if g, w := bfloatToFloat(got[i]), bfloatToFloat(want[i]); got[i] != want[i] && (g == g || w == w) {
				t.Fatalf("%s: element %d is %#x, want %#x", what, i, got[i], want[i])
			}
		}
	}
	made := func(n int) []uint16 { return make([]uint16, n) }
	hi, lo, wantHi, wantLo := made(steps*tileStep), made(steps*tileStep), made(steps*tileStep), made(steps*tileStep)
	narrowRowGo(wantHi, wantLo, x, order)
	narrowRow(lv, hi, lo, x, order)
	same("row, large parts", hi, wantHi)
	same("row, small parts", lo, wantLo)
	clear(hi)
	narrowRow(lv, hi, nil, x, order)
	same("row", hi, wantHi)

	n := len(x)
	narrowPanelGo(wantHi, wantLo, x)
	narrowPanel(lv, hi, lo, x)
	same("panel, large parts", hi[:n], wantHi[:n])
	same("panel, small parts", lo[:n], wantLo[:n])
	narrowPanel(lv, hi, nil, x)
	same("panel", hi[:n], wantHi[:n])

	rounded, want := append([]float32(nil), x...), append([]float32(nil), x...)
	roundBF16Go(want)
	roundToBF16(lv, rounded)
	sameBits(t, "rounded", rounded, want)
}

// FuzzNarrow compares the conversions with their twins on arbitrary bits.
func FuzzNarrow(f *testing.F) {
	f.Add([]byte{0, 0, 0x80, 0x7f, 1, 0, 0x80, 0x7f, 0xff, 0xff, 0x7f, 0x7f, 0xff, 0x7f, 0, 0}, uint8(0))
	f.Add([]byte{1, 0, 0, 0, 0, 0x80, 0, 0x3f, 0, 0x80, 1, 0x3f}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, which uint8) {
		x := make([]float32, (len(data)/4/tileCols+1)*tileCols)
		for i := range len(data) / 4 {
			x[i] = math.Float32frombits(uint32(data[4*i]) | uint32(data[4*i+1])<<8 | uint32(data[4*i+2])<<16 | uint32(data[4*i+3])<<24)
		}
		order := []*[tileCols]uint16{amxAdjacent, amxLUT4, amxLUT2}[which%3]
		before := Level()
		defer selectLevel(t, before)
		for _, lv := range Levels() {
			selectLevel(t, lv)
			checkNarrow(t, x, order)
		}
	})
}

// FuzzTiles compares products on tiles, or of their twins, with float64 for arbitrary sizes and formats.
func FuzzTiles(f *testing.F) {
	for kind := range uint8(9) {
		f.Add(kind, 3*kind+1, uint16(17*kind), uint16(67*kind), kind%2 == 0, uint64(kind))
	}
	f.Fuzz(func(t *testing.T, kind, rows uint8, n, k uint16, back bool, seed uint64) {
		m, nn, kk := int(rows)%70+1, int(n)%100+1, int(k)%700+1
		r := newRand(seed)
		w := tileFormats[int(kind)%len(tileFormats)].make(r, nn, kk)
		in, out, product := kk, nn, productIn
		if back {
			in, out, product = nn, kk, backIn
		}
		x, weights := normals(r, m*in), weightsOf(w)
		want, size := make([]float64, m*out), make([]float64, m*out)
		for i := range want {
			for j := range in {
				at := i%out*kk + j
				if back {
					at = j*kk + i%out
				}
				p := float64(x[i/out*in+j]) * weights[at]
				want[i] += p
				size[i] += math.Abs(p)
			}
		}
		before := Level()
		defer selectLevel(t, before)
		for _, lv := range Levels() {
			selectLevel(t, lv)
			for c, tolerance := range map[Compute]float64{Split: 0x1p-15, BF16: 0x1p-7} {
				if !c.available() {
					continue
				}
				for i, got := range product(c, 2, x, m, w) {
					if d := math.Abs(float64(got) - want[i]); !(d <= tolerance*size[i]+1e-30) {
						t.Fatalf("%s %s [%d, %d], %d rows, back %v: element %d is %v, want %v", lv, c, nn, kk, m, back, i, got, want[i])
					}
				}
			}
		}
	})
}
