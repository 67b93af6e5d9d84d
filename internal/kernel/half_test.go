package kernel

import (
	"math"
	"testing"

	"github.com/x448/float16"
)

// TestHalfExhaustive compares all 65,536 half-precision values with an independent library.
func TestHalfExhaustive(t *testing.T) {
	src := make([]uint16, 1<<16)
	want := make([]float32, 1<<16)
	for i := range src {
		src[i] = uint16(i)
		want[i] = float16.Frombits(uint16(i)).Float32()
	}
	eachLevel(t, func(t *testing.T, _ string) {
		got := make([]float32, len(src))
		for _, n := range []int{len(src), 0, 1, 15, 17, 33} {
			F16ToF32(got[:n], src[:n])
			for i, v := range got[:n] {
				if math.Float32bits(v) != math.Float32bits(want[i]) {
					t.Fatalf("half %#x is %v, want %v", i, v, want[i])
				}
			}
		}
		back := make([]uint16, len(src))
		F32ToF16(back, got)
		for i, h := range back {
			want := uint16(i)
			if got[i] != got[i] {
				want |= 0x200 // NaN comes back quiet
			}
			if h != want {
				t.Fatalf("half %#x came back as %#x", i, h)
			}
		}
	})
}

// roundingCases returns float32 values next to every value of a 16-bit type and next to every midpoint
// of two of them, and NaN and infinities.
func roundingCases(widen func(uint16) float32) []float32 {
	var x []float32
	for i := range 1 << 16 {
		v, next := widen(uint16(i)), widen(uint16(i+1))
		mid := float32((float64(v) + float64(next)) / 2)
		for _, c := range []float32{v, mid} {
			b := math.Float32bits(c)
			x = append(x, c, math.Float32frombits(b+1), math.Float32frombits(b-1))
		}
	}
	return append(x, 65519.996, 65520, -65520, 1e30, float32(math.Inf(1)), float32(math.Inf(-1)),
		math.Float32frombits(0x7f800001), math.Float32frombits(0xffc00000), 0x1p-149, -0x1p-25, 0x1.000002p-25)
}

func TestHalfRounding(t *testing.T) {
	src := roundingCases(func(h uint16) float32 { return float16.Frombits(h).Float32() })
	eachLevel(t, func(t *testing.T, _ string) {
		got := make([]uint16, len(src))
		F32ToF16(got, src)
		for i, v := range src {
			if want := float16.Fromfloat32(v).Bits(); got[i] != want {
				t.Fatalf("%v (%#x) rounds to %#x, want %#x", v, math.Float32bits(v), got[i], want)
			}
		}
	})
}

// TestBfloat checks rounding against its definition: the nearer neighbour, or the even one of two
// equally near ones.
func TestBfloat(t *testing.T) {
	src := roundingCases(bfloatToFloat)
	eachLevel(t, func(t *testing.T, _ string) {
		got := make([]uint16, len(src))
		F32ToBF16(got, src)
		wide := make([]float32, len(got))
		BF16ToF32(wide, got)
		for i, v := range src {
			if v != v {
				if wide[i] == wide[i] {
					t.Fatalf("NaN %#x became %v", math.Float32bits(v), wide[i])
				}
				continue
			}
			down := uint16(math.Float32bits(v) >> 16) // toward zero
			lo, hi := math.Abs(float64(bfloatToFloat(down))), math.Abs(float64(bfloatToFloat(down+1)))
			if math.IsInf(hi, 0) {
				hi = 0x1p128 // rounding knows no largest exponent
			}
			want, mag := down, math.Abs(float64(v))
			if dl, dh := mag-lo, hi-mag; !math.IsInf(mag, 0) && (dh < dl || dh == dl && down&1 == 1) {
				want = down + 1
			}
			if got[i] != want {
				t.Fatalf("%v (%#x) rounds to %#x, want %#x", v, math.Float32bits(v), got[i], want)
			}
		}
	})
}

func FuzzHalf(f *testing.F) {
	f.Add(uint32(0x3f800000), uint16(0x3c00), uint8(20))
	f.Add(uint32(0x477ff000), uint16(0x7c01), uint8(1))
	f.Add(uint32(0x33000001), uint16(0x0001), uint8(16))
	f.Fuzz(func(t *testing.T, bits uint32, half uint16, n uint8) {
		src, halves := make([]float32, n), make([]uint16, n)
		for i := range src {
			src[i] = math.Float32frombits(bits * uint32(2*i+1))
			halves[i] = half * uint16(2*i+1)
		}
		before := Level()
		defer selectLevel(t, before)
		for _, lv := range Levels() {
			selectLevel(t, lv)
			h, b := make([]uint16, n), make([]uint16, n)
			F32ToF16(h, src)
			F32ToBF16(b, src)
			w := make([]float32, n)
			F16ToF32(w, halves)
			for i := range src {
				if want := float16.Fromfloat32(src[i]).Bits(); h[i] != want {
					t.Errorf("%s: %#x rounds to half %#x, want %#x", lv, math.Float32bits(src[i]), h[i], want)
				}
				if want := floatToBfloat(src[i]); b[i] != want {
					t.Errorf("%s: %#x rounds to bfloat16 %#x, want %#x", lv, math.Float32bits(src[i]), b[i], want)
				}
				if want := float16.Frombits(halves[i]).Float32(); math.Float32bits(w[i]) != math.Float32bits(want) {
					t.Errorf("%s: half %#x is %v, want %v", lv, halves[i], w[i], want)
				}
			}
		}
	})
}
