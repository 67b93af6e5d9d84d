package kernel

import "unsafe"

// fusedFunc multiplies one row with np neighbouring panels of weights as they
// are stored, so that decoding reads each weight once and writes none:
//
//	c[16·p+j] (+)= Σk x[k]·w[p][k][j],  p < np, j < 16, k < kc
//
// b points to the first panel's weights and panels are ps bytes apart; table is
// [np][16], where the format has one. Factors of rows are left out. Its twin is
// widenPanel followed by a gemmFunc, which gives the same bits.
type fusedFunc func(kc int, x *float32, b *byte, ps int, table *float32, c *float32, add int)

// fusedSet holds a format's kernels by log2 of panels.
type fusedSet [nWide]fusedFunc

// fusedLevel holds the kernels of one level.
type fusedLevel struct {
	f16, bf16, int8, lut4, lut2 fusedSet
}

var fusedAVX512 = fusedLevel{
	f16:  fusedSet{0: fusedF16AVX512_1, 2: fusedF16AVX512_4, 3: fusedF16AVX512_8},
	bf16: fusedSet{0: fusedBF16AVX512_1, 2: fusedBF16AVX512_4, 3: fusedBF16AVX512_8},
	int8: fusedSet{0: fusedInt8AVX512_1, 2: fusedInt8AVX512_4, 3: fusedInt8AVX512_8},
	lut4: fusedSet{0: fusedLUT4AVX512_1, 2: fusedLUT4AVX512_4, 3: fusedLUT4AVX512_8},
	lut2: fusedSet{0: fusedLUT2AVX512_1, 2: fusedLUT2AVX512_4, 3: fusedLUT2AVX512_8},
}

var fusedAVX2 = fusedLevel{
	f16:  fusedSet{0: fusedF16AVX2_1, 2: fusedF16AVX2_4},
	bf16: fusedSet{0: fusedBF16AVX2_1, 2: fusedBF16AVX2_4},
	int8: fusedSet{0: fusedInt8AVX2_1, 2: fusedInt8AVX2_4},
	lut4: fusedSet{0: fusedLUT4AVX2_1, 1: fusedLUT4AVX2_2},
	lut2: fusedSet{0: fusedLUT2AVX2_1, 1: fusedLUT2AVX2_2},
}

// hasFused reports whether fused kernels of the level read the format.
func hasFused(l isa, f format) bool {
	return l != isaGeneric && f != formatF32 && f != formatLUT8
}

// set returns the kernels for the way w stores its weights.
func (lv *fusedLevel) set(w *Matrix) *fusedSet {
	switch w.format {
	case formatF16:
		return &lv.f16
	case formatBF16:
		return &lv.bf16
	case formatInt8:
		return &lv.int8
	case formatLUT4:
		return &lv.lut4
	case formatLUT2:
		return &lv.lut2
	}
	panic("kernel: no fused kernel for this format")
}

// fused multiplies the row x, columns [k0, k0+len(x)) of it, with cols rows of W
// from panel p0 on. hasFused must hold.
func (t *tiles) fused(x []float32, w *Matrix, p0, k0, cols int, c []float32) {
	lv := &fusedAVX2
	if t.lv == isaAVX512 {
		lv = &fusedAVX512
	}
	set := lv.set(w)
	b, ps := w.stored(p0, panelsOf(cols), k0, t.kc)
	_ = c[cols-1]
	call := func(f fusedFunc, p int, c *float32, add int) {
		var table *float32
		if w.table != nil {
			table = &w.table[(p0+p)*PanelRows]
		}
		f(t.kc, &x[0], (*byte)(unsafe.Add(b, p*ps)), ps, table, c, add)
	}
	full, p := cols/PanelRows, 0
	for wide := nWide - 1; wide >= 0; wide-- {
		f, n := set[wide], 1<<wide
		if f == nil {
			continue
		}
		for ; p+n <= full; p += n {
			call(f, p, &c[p*PanelRows], t.add)
		}
	}
	if rest := cols % PanelRows; rest > 0 {
		call(set[0], full, &t.tile[0], 0)
		copyTile(t.tile, t.add, 1, rest, c[full*PanelRows:], len(c))
	}
}
