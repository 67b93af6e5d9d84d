package kernel

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// halfTable returns a packed look-up table of half-precision values. The entries of a 2-bit table are
// repeated, as packing does.
func halfTable(src []uint16, field int) []float32 {
	tab := make([]float32, PanelRows)
	for i := range tab {
		tab[i] = halfToFloat(src[i&(1<<field-1)])
	}
	return tab
}

// FuzzWiden compares the kernels that widen stored weights, gather and transpose with their Go twins on
// arbitrary bits, for arbitrary numbers of columns and rows.
func FuzzWiden(f *testing.F) {
	for i := range uint64(12) {
		f.Add(i, uint8(i*7), uint8(i))
	}
	f.Fuzz(func(t *testing.T, seed uint64, columns, rows uint8) {
		r := newRand(seed)
		cols := 1 + int(columns)
		n := cols * PanelRows
		half, q, bytes := make([]uint16, n), make([]int8, n), make([]uint8, n)
		dwords, scale, base := make([]uint32, n), make([]float32, PanelRows), make([]int32, PanelRows)
		wide := make([]float32, n+PanelRows)
		for i := range n {
			half[i], q[i], bytes[i] = uint16(r.Uint32()), int8(r.Uint32()), uint8(r.Uint32())
			dwords[i] = r.Uint32()
			wide[i] = math.Float32frombits(r.Uint32())
		}
		for i := range scale {
			scale[i], base[i] = math.Float32frombits(r.Uint32()), int32(i)<<8
		}
		big := make([]float32, PanelRows<<8)
		for i := range big {
			big[i] = math.Float32frombits(r.Uint32())
		}
		mr := 1 + int(rows)%PanelRows
		before := Level()
		defer selectLevel(t, before)
		for _, level := range vectorLevels() {
			selectLevel(t, level)
			lv := currentISA()
			got, want := make([]float32, n), make([]float32, n)
			same := func(what string) {
				t.Helper()
				sameBits(t, fmt.Sprintf("%s: %s, %d columns", level, what, cols), got, want)
			}
			widenF16(lv, got, half)
			widenF16Go(want, half)
			same("F16")
			widenBF16(lv, got, half)
			widenBF16Go(want, half)
			same("BF16")
			widenInt8(lv, got, q, scale)
			widenInt8Go(want, q, scale)
			same("Int8")
			widenLUT8(lv, got, bytes, big, base, scale)
			widenLUT8Go(want, bytes, big, base, scale)
			same("LUT8")
			ld := PanelRows + int(rows)
			spread := make([]float32, (cols-1)*ld+PanelRows)
			for i := range spread {
				spread[i] = math.Float32frombits(r.Uint32())
			}
			for _, step := range []int{PanelRows, mr} {
				got, want := make([]float32, cols*PanelRows), make([]float32, cols*PanelRows)
				gather(lv, got, step, spread, ld, cols)
				gatherGo(want, step, spread, ld, cols)
				sameBits(t, fmt.Sprintf("%s: gather of %d rows to places %d apart", level, cols, step), got, want)
			}

			step := mr
			if mr > gemms(lv).mr {
				step = PanelRows
			}
			src := wide[:mr*cols]
			got, want = make([]float32, cols*step+PanelRows), make([]float32, mr*cols)
			transpose(lv, got, step, src, cols, mr, cols)
			transposed := make([]float32, 0, mr*cols)
			for k := range cols {
				transposed = append(transposed, got[k*step:][:mr]...)
				for i := range mr {
					want[k*mr+i] = src[i*cols+k]
				}
			}
			sameBits(t, fmt.Sprintf("%s: transpose of %d rows, %d columns", level, mr, cols), transposed, want)

			for _, field := range []int{2, 4} {
				table := halfTable(half, field)
				got, want = make([]float32, n*32/field), make([]float32, n*32/field)
				widenLUT(lv, field, got, dwords, table, scale)
				widenLUTGo(field, want, dwords, table, scale)
				same(fmt.Sprintf("LUT%d", field))
			}
		}
	})
}

// TestFusedTails multiplies one row by the stored weights of every format, for many numbers of columns,
// with kernels of every width and a partial panel. The product must have the bits of the product with
// widened weights.
func TestFusedTails(t *testing.T) {
	const rows = 7*PanelRows + 5
	eachLevel(t, func(t *testing.T, level string) {
		for k := 1; k <= 40; k++ {
			for name, w := range fixedMatrices(rows, k) {
				if !hasFused(currentISA(), w.format) {
					continue
				}
				scale := w.scale
				if w.scaled { // a factor multiplies the finished sum
					w.scale = slices.Repeat([]float32{1}, len(scale))
				}
				plain := make([]float32, rows*k)
				for r := range rows {
					w.Row(plain[r*k:][:k], r)
				}
				w.scale = scale
				x := fixedPoint(newRand(uint64(k)), k)
				want := product(1, x, 1, PackF32(rows, k, plain))
				if w.scaled {
					mulToGo(want, scale[:rows])
				}
				sameBits(t, fmt.Sprintf("%s, %d columns", name, k), product(1, x, 1, w), want)
			}
		}
	})
}

// TestLimits checks that the loops that measure peak rates count their operations and read all memory.
func TestLimits(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		one := peak(currentISA(), 1)
		if one <= 0 || peak(currentISA(), 1000) != 1000*one {
			t.Errorf("peak counts %d operations in a round and %d in 1000", one, peak(currentISA(), 1000))
		}
		b := make([]byte, 4*512)
		if got := stream(currentISA(), b, false); got != 0 {
			t.Errorf("a sum of zeros is %d", got)
		}
		for i := range b {
			b[i] = 1
		}
		if got := stream(currentISA(), b, false); got&1 == 0 {
			t.Errorf("a sum of ones is %#x", got)
		}
	})
}
