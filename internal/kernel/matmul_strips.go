package kernel

// strips divides the m rows of A into strips of nearly equal height, at most that of the tallest
// microkernel, so that all strips take about the same time for each row.
type strips struct {
	m, n   int // rows, strips
	stride int // floats from one packed strip of a block to the next
}

func newStrips(mr, m int) strips {
	// A vectorized transposition writes up to 15 floats past its strip.
	return strips{m: m, n: (m + mr - 1) / mr, stride: mr*blockK + PanelRows}
}

// rows returns the first row of strip s and its height.
func (st strips) rows(s int) (first, height int) {
	r0, r1 := st.m*s/st.n, st.m*(s+1)/st.n
	return r0, r1 - r0
}

// pack writes columns [k0, k0+kc) of strip s of A, whose rows are lda apart, to dst as [k][height].
func (st strips) pack(lv isa, dst, a []float32, lda, s, k0, kc int) {
	r0, h := st.rows(s)
	transpose(lv, dst, h, a[r0*lda+k0:], lda, h, kc)
}

// packAll packs all columns of strip s of A into packed, [block of k][strip], rounded to bfloat16 if
// round is set.
func (st strips) packAll(lv isa, packed, a []float32, cols, s int, round bool) {
	_, h := st.rows(s)
	for b, k0 := 0, 0; k0 < cols; b, k0 = b+1, k0+blockK {
		dst, kc := packed[(b*st.n+s)*st.stride:][:st.stride], min(blockK, cols-k0)
		st.pack(lv, dst, a, cols, s, k0, kc)
		if round {
			roundToBF16(lv, dst[:kc*h])
		}
	}
}

// transpose writes dst[k·step+r] = src[r·ld+k] for r < rows ≤ 16 and k < n; step is rows or 16. dst
// has 16 elements past the last. Their values, and those of lanes rows to step, are unspecified
// afterwards.
func transpose(lv isa, dst []float32, step int, src []float32, ld, rows, n int) {
	k := transposeBlocks(lv, dst, step, src, ld, rows, n)
	for ; k < n; k++ {
		for r := range rows {
			dst[k*step+r] = src[r*ld+k]
		}
	}
}

// blockProduct multiplies packed strips by packed panels for one block of k.
type blockProduct struct {
	lv   isa
	set  *gemmSet
	kc   int
	add  int // 0: store the block's sums; 1: add them to C
	tile *[maxStrip * PanelRows]float32
}

// multiply computes cols columns of C, whose rows are ldc apart, for one strip. Panels of b are ps
// floats apart. The sums of a partial last panel are computed in the tile and copied, so that
// nothing is written past the columns of C.
func (t *blockProduct) multiply(mr int, a, b []float32, ps, cols int, c []float32, ldc int) {
	_ = a[t.kc*mr-1]
	_ = c[(mr-1)*ldc+cols-1]
	_ = b[(panelsOf(cols)-1)*ps+t.kc*PanelRows-1]
	full, p := cols/PanelRows, 0
	for wide := nWide - 1; wide >= 0; wide-- {
		f, np := t.set.funcs[mr][wide], 1<<wide
		if f == nil {
			continue
		}
		for ; p+np <= full; p += np {
			f(t.kc, &a[0], &b[p*ps], ps, &c[p*PanelRows], ldc, t.add)
		}
	}
	if rest := cols % PanelRows; rest > 0 {
		t.set.funcs[mr][0](t.kc, &a[0], &b[full*ps], ps, &t.tile[0], PanelRows, 0)
		copyTile(t.tile, t.add, mr, rest, c[full*PanelRows:], ldc)
	}
}

// copyTile copies the first cols columns of mr rows of the tile to C, or adds them if add is 1.
func copyTile(tile *[maxStrip * PanelRows]float32, add, mr, cols int, c []float32, ldc int) {
	for r := range mr {
		src, dst := tile[r*PanelRows:][:cols], c[r*ldc:][:cols]
		if add == 0 {
			copy(dst, src)
			continue
		}
		for j, v := range src {
			dst[j] += v
		}
	}
}
