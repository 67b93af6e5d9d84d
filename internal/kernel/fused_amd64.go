package kernel

import "unsafe"

// fusedFunc multiplies one row with np neighbouring panels of weights as they
// are stored, so that decoding reads each weight once and writes none:
//
//	c[16·p+j] (+)= Σk x[k]·w[p][k][j],  p < np, j < 16, k < kc
//
// where the sums of blocks of 256 columns are added one after the other. b points to the first
// panel's weights and panels are ps bytes apart; table is [np][16], where the format has one.
// Factors of rows are left out. Its twin is widenPanel followed by gemmFuncs, which gives the
// same bits.
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

// multiplyStored multiplies all rows of X with cols rows of W from panel p0 on as they are
// stored. A few panels are read from end to end, so that the processor sees where reading
// goes on, and once more from its cache for every further row of X. hasFused must hold.
func (f *forward) multiplyStored(buf *workerBuf, p0, cols int) {
	lv := &fusedAVX2
	if f.lv == isaAVX512 {
		lv = &fusedAVX512
	}
	w := f.w
	set := lv.set(w)
	b, ps := w.stored(p0, panelsOf(cols), 0, w.cols)
	_ = f.x[f.m*w.cols-1]
	call := func(kernel fusedFunc, r, p int, c *float32) {
		var table *float32
		if w.table != nil {
			table = &w.table[(p0+p)*PanelRows]
		}
		kernel(w.cols, &f.x[r*w.cols], (*byte)(unsafe.Add(b, p*ps)), ps, table, c, f.add)
	}
	full, p := cols/PanelRows, 0
	for wide := nWide - 1; wide >= 0; wide-- {
		kernel, n := set[wide], 1<<wide
		if kernel == nil {
			continue
		}
		for ; p+n <= full; p += n {
			for r := range f.m {
				call(kernel, r, p, &f.y[r*w.rows+(p0+p)*PanelRows:][:n*PanelRows][0])
			}
		}
	}
	if rest := cols % PanelRows; rest > 0 {
		for r := range f.m {
			c := f.y[r*w.rows+(p0+full)*PanelRows:][:rest]
			copy(buf.tile[:], c) // blocks of a row add up one after the other
			call(set[0], r, full, &buf.tile[0])
			copy(c, buf.tile[:])
		}
	}
}
