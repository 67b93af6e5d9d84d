package kernel

import "fmt"

// Scratch multiplies small matrices, those of attention for example, and holds the buffers of one
// worker. The zero value is ready to use; buffers grow as needed. It must not be used by two
// goroutines at once.
type Scratch struct {
	a, b []float32
	tile [maxStrip * PanelRows]float32
}

// MulNT computes C = A·Bᵀ on the caller's goroutine: A is [m, k] with rows lda
// apart, B [n, k] with rows ldb apart, C [m, n] with rows ldc apart, all in
// elements. C is overwritten and must not overlap A or B. The order of sums is
// that of [Pool.MulT], so equal operands give equal bits.
func (s *Scratch) MulNT(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	s.multiply(smallProduct{m: m, n: n, k: k, a: operand{a, lda, false}, b: operand{b, ldb, true}, c: c, ldc: ldc})
}

// MulNTAdd computes C += A·Bᵀ; otherwise it is like [Scratch.MulNT].
func (s *Scratch) MulNTAdd(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	s.multiply(smallProduct{m: m, n: n, k: k, a: operand{a, lda, false}, b: operand{b, ldb, true}, c: c, ldc: ldc, add: true})
}

// MulNN computes C = A·B on the caller's goroutine: A is [m, k] with rows lda
// apart, B [k, n] with rows ldb apart, C [m, n] with rows ldc apart, all in
// elements. C is overwritten and must not overlap A or B. The order of sums is
// that of [Pool.MulT], so equal operands give equal bits.
func (s *Scratch) MulNN(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	s.multiply(smallProduct{m: m, n: n, k: k, a: operand{a, lda, false}, b: operand{b, ldb, false}, c: c, ldc: ldc})
}

// MulNNAdd computes C += A·B; otherwise it is like [Scratch.MulNN].
func (s *Scratch) MulNNAdd(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	s.multiply(smallProduct{m: m, n: n, k: k, a: operand{a, lda, false}, b: operand{b, ldb, false}, c: c, ldc: ldc, add: true})
}

// MulTNAdd computes C += Aᵀ·B on the caller's goroutine: A is [k, m] with rows lda
// apart, B [k, n] with rows ldb apart, C [m, n] with rows ldc apart, all in
// elements. C must not overlap A or B. Each block of 256 of the summed dimension
// is one chain of multiply-adds, and the chains are added to C in order.
func (s *Scratch) MulTNAdd(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	s.multiply(smallProduct{m: m, n: n, k: k, a: operand{a, lda, true}, b: operand{b, ldb, false}, c: c, ldc: ldc, add: true})
}

// operand is a matrix of a small product: x holds its rows, or the rows of its transpose if
// transposed is set, ld elements apart. (A closure that packs would be allocated for every
// product.)
type operand struct {
	x          []float32
	ld         int
	transposed bool
}

// strip writes columns [k0, k0+kc) of rows [first, first+height) as [k][height]. It may overwrite 16
// further elements.
func (o operand) strip(lv isa, dst []float32, first, height, k0, kc int) {
	if !o.transposed {
		transpose(lv, dst, height, o.x[first*o.ld+k0:], o.ld, height, kc)
		return
	}
	o.rows(lv, dst, height, height, k0*o.ld+first, kc)
}

// panel writes columns [j0, j0+cols), cols ≤ 16, of rows [k0, k0+kc) as [k][16].
func (o operand) panel(lv isa, dst []float32, j0, cols, k0, kc int) {
	if o.transposed {
		transpose(lv, dst, PanelRows, o.x[j0*o.ld+k0:], o.ld, cols, kc)
		return
	}
	o.rows(lv, dst, PanelRows, cols, k0*o.ld+j0, kc)
}

// rows copies cols elements, at most 16, from each of n rows of x, the first at element at, to
// positions step apart in dst. The values of lanes cols to 16 are unspecified.
func (o operand) rows(lv isa, dst []float32, step, cols, at, n int) {
	// Copy whole vectors as long as they do not extend past the end of the matrix.
	whole := 0
	if last := len(o.x) - PanelRows - at; last >= 0 {
		whole = min(n, last/o.ld+1)
	}
	gather(lv, dst, step, o.x[at:], o.ld, whole)
	for r := whole; r < n; r++ {
		copy(dst[r*step:], o.x[at+r*o.ld:][:cols])
	}
}

// scratchPanels is the number of panels of B that a small product packs at a time.
const scratchPanels = 16

// smallProduct is one product: C = A·B or C += A·B with A [m, k] and B [k, n].
type smallProduct struct {
	m, n, k int
	a, b    operand
	c       []float32
	ldc     int
	add     bool
}

// multiply computes a small product.
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
		t := blockProduct{lv: lv, set: set, kc: kc, tile: &s.tile}
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

// MulTPart multiplies by a part of a packed float32 matrix on the caller's goroutine:
// Y = X·W[row0:row0+rows, col0:col0+cols]ᵀ, or Y += with add. X is
// [m, cols] with rows ldx apart, Y [m, rows] with rows ldy apart; row0 is a multiple
// of [PanelRows]. The summed dimension is cut into blocks of 256 from col0 on.
func (s *Scratch) MulTPart(m int, x []float32, ldx int, w *Matrix, row0, rows, col0, cols int, y []float32, ldy int, add bool) {
	if w.format != formatF32 || row0%PanelRows != 0 || row0+rows > w.rows || col0+cols > w.cols {
		panic(fmt.Sprintf("kernel: MulTPart: rows %d+%d and columns %d+%d of a matrix [%d, %d]", row0, rows, col0, cols, w.rows, w.cols))
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
		t := blockProduct{lv: lv, set: set, kc: kc, tile: &s.tile}
		if add || k0 > 0 {
			t.add = 1
		}
		for i := range st.n {
			st.pack(lv, s.a[i*st.stride:][:st.stride], x, ldx, i, k0, kc)
		}
		// A few panels stay in the cache while all strips are multiplied by them.
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
