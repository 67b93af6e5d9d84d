package palettize

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/x448/float16"
)

func TestF16ValueMatchesTheReference(t *testing.T) {
	for c := range 1 << 16 {
		got, want := f16Value(uint16(c)), float64(float16.Frombits(uint16(c)).Float32())
		if math.Float64bits(got) != math.Float64bits(want) && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("f16Value(%#04x) = %v, want %v", c, got, want)
		}
		var v [1]float64
		if valuesF16(v[:], []uint16{uint16(c)}); finiteF16(uint16(c)) && math.Float64bits(v[0]) != math.Float64bits(want) {
			t.Errorf("valuesF16(%#04x) = %v, want %v", c, v[0], want)
		}
	}
}

func TestRoundF16MatchesTheReference(t *testing.T) {
	check := func(v float64) {
		t.Helper()
		want := float16.Fromfloat32(float32(v))
		if want == 0x8000 {
			want = 0
		}
		got, ok := roundF16(v)
		if ok != want.IsFinite() || ok && got != want.Bits() {
			t.Errorf("roundF16(%v) = %#04x, %v, want %#04x", v, got, ok, want.Bits())
		}
	}
	// Every fp16 value, the ties between neighbours, and the adjacent float32 values, because
	// the reference takes float32.
	for c := range 0x7c00 {
		v := float32(f16Value(uint16(c)))
		tie := (v + float32(f16Value(uint16(c+1)))) / 2
		if c == 0x7bff {
			tie = 65520
		}
		for _, x := range []float32{v, tie, math.Nextafter32(tie, 0), math.Nextafter32(tie, 1e6)} {
			check(float64(x))
			check(-float64(x))
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100000 {
		if v := math.Float32frombits(r.Uint32()); v == v {
			check(float64(v))
		}
	}
	// One rounding, not two: rounding to float32 first would turn these into ties.
	if got, _ := roundF16(1 + 0x1p-11 + 0x1p-40); got != 0x3c01 {
		t.Errorf("a value just above a tie rounds to %#04x, want 0x3c01", got)
	}
	for _, v := range []float64{math.Inf(1), math.Inf(-1), math.NaN(), 65520, 1e300} {
		if got, ok := roundF16(v); ok {
			t.Errorf("roundF16(%v) = %#04x", v, got)
		}
	}
	if got, ok := roundF16(5e-324); got != 0 || !ok {
		t.Errorf("roundF16 of the smallest float64 = %#04x, %v", got, ok)
	}
}
