package kernel

import "fmt"

// strips cuts the m rows of A into strips of nearly equal height, none higher
// than a microkernel, so that no strip is much slower per row than another.
type strips struct {
	m, n   int // rows, strips
	stride int // floats kept for one packed strip of one block
}

func newStrips(mr, m int) strips {
	// A vectorised transposition writes up to 15 floats past its strip.
	return strips{m: m, n: (m + mr - 1) / mr, stride: mr*blockK + PanelRows}
}

// rows returns the first row of strip s and its height.
func (st strips) rows(s int) (first, height int) {
	r0, r1 := st.m*s/st.n, st.m*(s+1)/st.n
	return r0, r1 - r0
}

// pack writes columns [k0, k0+kc) of strip s of A, whose rows are lda apart, to
// dst as [k][height].
func (st strips) pack(lv isa, dst, a []float32, lda, s, k0, kc int) {
	r0, h := st.rows(s)
	transpose(lv, dst, h, a[r0*lda+k0:], lda, h, kc)
}

// packAll packs strip s of A, with all its columns, to its places among the strips of every
// block, [block of k][strip], rounded to bfloat16 if round is set.
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

// transpose writes dst[k·step+r] = src[r·ld+k] for r < rows ≤ 16 and k < n, where
// step is rows or 16. dst has 16 elements beyond the last; they, and the lanes
// that rows leaves free, may be overwritten with anything.
func transpose(lv isa, dst []float32, step int, src []float32, ld, rows, n int) {
	k := transposeBlocks(lv, dst, step, src, ld, rows, n)
	for ; k < n; k++ {
		for r := range rows {
			dst[k*step+r] = src[r*ld+k]
		}
	}
}

// tiles multiplies packed strips with packed panels for one block of k.
type tiles struct {
	lv   isa
	set  *gemmSet
	kc   int
	add  int // 0: store the block's sums; 1: add them to C
	tile *[maxStrip * PanelRows]float32
}

// multiply computes cols columns of C, whose rows are ldc apart, for one strip.
// Panels of b are ps floats apart. A last panel that is not whole goes through
// the tile, so that nothing is written beyond the columns of C.
func (t *tiles) multiply(mr int, a, b []float32, ps, cols int, c []float32, ldc int) {
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

// copyTile stores the first cols columns of the tile's mr rows, or adds them.
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

// Scratch holds the buffers of one worker's small products. The zero value is
// ready; it grows to the largest product seen. It must not be used by two
// goroutines at once.
type Scratch struct {
	a, b []float32
	tile [maxStrip * PanelRows]float32
}

// MulNT computes C = A·Bᵀ on the caller's goroutine: A is [m, k] with rows lda
// apart, B [n, k] with rows ldb apart, C [m, n] with rows ldc apart, all in
// elements. C is overwritten and must not overlap A or B. The order of sums is
// MulT's, so the same numbers give the same bits.
func (s *Scratch) MulNT(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	s.multiply(smallProduct{m: m, n: n, k: k, a: operand{a, lda, false}, b: operand{b, ldb, true}, c: c, ldc: ldc})
}

// MulNTAdd is MulNT with C += A·Bᵀ.
func (s *Scratch) MulNTAdd(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	s.multiply(smallProduct{m: m, n: n, k: k, a: operand{a, lda, false}, b: operand{b, ldb, true}, c: c, ldc: ldc, add: true})
}

// MulNN computes C = A·B on the caller's goroutine: A is [m, k] with rows lda
// apart, B [k, n] with rows ldb apart, C [m, n] with rows ldc apart, all in
// elements. C is overwritten and must not overlap A or B. The order of sums is
// MulT's, so the same numbers give the same bits.
func (s *Scratch) MulNN(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	s.multiply(smallProduct{m: m, n: n, k: k, a: operand{a, lda, false}, b: operand{b, ldb, false}, c: c, ldc: ldc})
}

// MulTNAdd computes C += Aᵀ·B on the caller's goroutine: A is [k, m] with rows lda
// apart, B [k, n] with rows ldb apart, C [m, n] with rows ldc apart, all in
// elements. C must not overlap A or B. Each block of 256 of the summed dimension
// is one chain, and the chains are added to C in order.
func (s *Scratch) MulTNAdd(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	s.multiply(smallProduct{m: m, n: n, k: k, a: operand{a, lda, true}, b: operand{b, ldb, false}, c: c, ldc: ldc, add: true})
}

// operand is a matrix of a small product, row by row with rows ld apart, or what is given
// by its transpose's rows. (Not a closure that packs: those would be allocated for every
// product.)
type operand struct {
	x      []float32
	ld     int
	turned bool
}

// strip writes columns [k0, k0+kc) of rows [first, first+height) as [k][height], and may
// write 16 elements more.
func (o operand) strip(lv isa, dst []float32, first, height, k0, kc int) {
	if !o.turned {
		transpose(lv, dst, height, o.x[first*o.ld+k0:], o.ld, height, kc)
		return
	}
	for r := range kc {
		copyRow(dst[r*height:], o.x[(k0+r)*o.ld+first:], height)
	}
}

// panel writes columns [j0, j0+cols), cols ≤ 16, of rows [k0, k0+kc) as [k][16].
func (o operand) panel(lv isa, dst []float32, j0, cols, k0, kc int) {
	switch {
	case o.turned:
		transpose(lv, dst, PanelRows, o.x[j0*o.ld+k0:], o.ld, cols, kc)
	case cols == PanelRows:
		gather(lv, dst[:kc*PanelRows], o.x[k0*o.ld+j0:], o.ld)
	default:
		for r := range kc {
			copyRow(dst[r*PanelRows:], o.x[(k0+r)*o.ld+j0:], cols)
		}
	}
}

// copyRow copies n elements, at most 16, and where there is room all 16, which needs no
// call.
func copyRow(dst, src []float32, n int) {
	if len(src) >= PanelRows && len(dst) >= PanelRows {
		*(*[PanelRows]float32)(dst) = [PanelRows]float32(src)
		return
	}
	copy(dst, src[:n])
}

// gatherGo copies the first 16 elements of rows of src, which are ld apart, to
// dst one after another.
func gatherGo(dst, src []float32, ld int) {
	for r := 0; r*PanelRows < len(dst); r++ {
		*(*[PanelRows]float32)(dst[r*PanelRows:]) = [PanelRows]float32(src[r*ld:])
	}
}

// scratchPanels is how many panels of B a small product packs at a time.
const scratchPanels = 16

// smallProduct is one product: C = A·B or C += A·B with A [m, k] and B [k, n].
type smallProduct struct {
	m, n, k int
	a, b    operand
	c       []float32
	ldc     int
	add     bool
}

// multiply is the common loop of all small products.
func (s *Scratch) multiply(p smallProduct) {
	if p.m <= 0 || p.n <= 0 {
		return
	}
	if p.k <= 0 {
		for i := range p.m {
			if !p.add {
				clear(p.c[i*p.ldc:][:p.n])
			}
		}
		return
	}
	lv := currentISA()
	set := gemms(lv)
	st := newStrips(set.mr, p.m)
	ps := min(p.k, blockK) * PanelRows
	s.b = grow(s.b, min(panelsOf(p.n), scratchPanels)*ps+PanelRows)
	s.a = grow(s.a, st.n*st.stride)
	for k0 := 0; k0 < p.k; k0 += blockK {
		kc := min(blockK, p.k-k0)
		for i := range st.n {
			first, height := st.rows(i)
			p.a.strip(lv, s.a[i*st.stride:][:st.stride], first, height, k0, kc)
		}
		t := tiles{lv: lv, set: set, kc: kc, tile: &s.tile}
		if p.add || k0 > 0 {
			t.add = 1
		}
		for j0 := 0; j0 < p.n; j0 += scratchPanels * PanelRows {
			cols := min(scratchPanels*PanelRows, p.n-j0)
			for j := 0; j < cols; j += PanelRows {
				p.b.panel(lv, s.b[j/PanelRows*ps:], j0+j, min(PanelRows, cols-j), k0, kc)
			}
			for i := range st.n {
				r0, mr := st.rows(i)
				t.multiply(mr, s.a[i*st.stride:], s.b, ps, cols, p.c[r0*p.ldc+j0:], p.ldc)
			}
		}
	}
}

// MulTPart multiplies with a part of a packed float32 matrix on the caller's
// goroutine: Y = X·W[row0:row0+rows, col0:col0+cols]ᵀ, or Y += with add. X is
// [m, cols] with rows ldx apart, Y [m, rows] with rows ldy apart; row0 is a multiple
// of [PanelRows]. The summed dimension is cut into blocks of 256 from col0 on.
func (s *Scratch) MulTPart(m int, x []float32, ldx int, w *Matrix, row0, rows, col0, cols int, y []float32, ldy int, add bool) {
	if w.format != formatF32 || row0%PanelRows != 0 || row0+rows > w.rows || col0+cols > w.cols {
		panic(fmt.Sprintf("kernel: MulTPart: rows %d+%d, columns %d+%d of [%d, %d]", row0, rows, col0, cols, w.rows, w.cols))
	}
	if m <= 0 || rows <= 0 || cols <= 0 {
		return
	}
	lv := currentISA()
	set := gemms(lv)
	st := newStrips(set.mr, m)
	s.a = grow(s.a, st.n*st.stride)
	for k0 := 0; k0 < cols; k0 += blockK {
		kc := min(blockK, cols-k0)
		t := tiles{lv: lv, set: set, kc: kc, tile: &s.tile}
		if add || k0 > 0 {
			t.add = 1
		}
		for i := range st.n {
			st.pack(lv, s.a[i*st.stride:][:st.stride], x, ldx, i, k0, kc)
		}
		// A few panels stay in the cache while the strips pass by.
		for p := 0; p < rows; p += jobPanels * PanelRows {
			n := min(jobPanels*PanelRows, rows-p)
			b := w.f32[((row0+p)/PanelRows*w.cols+col0+k0)*PanelRows:]
			for i := range st.n {
				r0, mr := st.rows(i)
				t.multiply(mr, s.a[i*st.stride:], b, w.cols*PanelRows, n, y[r0*ldy+p:], ldy)
			}
		}
	}
}

// grow returns a slice of n elements, b itself if it is large enough.
func grow[T any](b []T, n int) []T {
	if cap(b) < n {
		return make([]T, n)
	}
	return b[:n]
}
