package kernel

import "unsafe"

// int16Product is one product Y = X·Wᵀ of 16-bit integers, of at most maxRows rows.
type int16Product struct {
	lv          isa
	set         *gemmI16Set
	st          strips
	y, x        []float32
	rounded     []int16   // rows [m][cols], or strips [block of k][strip][pair][rows of the strip]
	factors     []float32 // [m][blocks], or [strip][blocks][rows of the strip]
	cols        int       // elements of a rounded row
	scales      int       // factors of a rounded row
	m           int
	w           *Matrix
	form        *int16Form
	per, groups int
	fused       bool
}

// mulTI16 is mulT in arithmetic I16.
func (p *Pool) mulTI16(ws *workspace, y, x []float32, m int, w *Matrix, form *int16Form) {
	lv := currentISA()
	set := gemmsI16(lv)
	st := newStrips(set.mr, m)
	f := &ws.int16
	*f = int16Product{
		lv: lv, set: set, st: st, y: y, x: x, m: m, w: w, form: form,
		cols: roundedCols(w.cols), scales: scaleBlocks(w.cols),
		fused: m <= fusedRowsI16 && w.fusedI16(lv),
	}
	var blocks int
	f.per, blocks, f.groups = p.partition(m, w.panels(), st.n)
	run := p.runFor(m * w.rows * w.cols)
	ready := run
	if m*w.cols < serialWork/4 {
		ready = runSerial
	}
	if f.fused || m == 1 { // a single row is its own packed form
		ws.rounded, ws.factors = grow(ws.rounded, m*f.cols), grow(ws.factors, m*f.scales)
		f.rounded, f.factors = ws.rounded, ws.factors
		ready(m, ws.roundI16)
	} else {
		kBlocks := (w.cols + blockK - 1) / blockK
		ws.rounded, ws.factors = grow(ws.rounded, kBlocks*st.n*f.stride()), grow(ws.factors, st.n*f.scales*set.mr)
		f.rounded, f.factors = ws.rounded, ws.factors
		ready(st.n, ws.packI16)
	}
	run(blocks*f.groups, ws.runI16)
	*f = int16Product{} // so that the workspace does not keep X and Y alive
}

// stride is the distance between two packed strips of one block, in elements. It includes the 16
// dwords past a strip that transposition may write, as in newStrips.
func (f *int16Product) stride() int { return f.set.mr*blockK + 2*PanelRows }

// round rounds row r of X.
func (f *int16Product) round(r int) {
	f.form.round(f.lv, f.rounded[r*f.cols:][:f.cols], f.factors[r*f.scales:][:f.scales], f.x[r*f.w.cols:][:f.w.cols])
}

// pack rounds the rows of strip s and packs them in the layout of the microkernels.
func (f *int16Product) pack(buf *workerBuf, s int) {
	first, h := f.st.rows(s)
	buf.strip, buf.factors = grow(buf.strip, h*f.cols), grow(buf.factors, h*f.scales)
	factors := f.factors[s*f.scales*f.set.mr:]
	for r := range h {
		x := f.x[(first+r)*f.w.cols:][:f.w.cols]
		f.form.round(f.lv, buf.strip[r*f.cols:][:f.cols], buf.factors, x)
		for b := range f.scales {
			factors[b*h+r] = buf.factors[b]
		}
	}
	// A pair is moved as one float32: transposition does not interpret the values.
	rows := asDwords(buf.strip)
	for b, k0 := 0, 0; k0 < f.cols; b, k0 = b+1, k0+blockK {
		n := min(blockK, f.cols-k0) / 2
		dst := asDwords(f.rounded[(b*f.st.n+s)*f.stride():][:f.stride()])
		transpose(f.lv, dst, h, rows[k0/2:], f.cols/2, h, n)
	}
}

// asDwords returns pairs of int16 as float32 with the same bits.
func asDwords(x []int16) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(x))), len(x)/2)
}

// run executes job i: one block of panels for one group of strips.
func (f *int16Product) run(buf *workerBuf, i int) {
	w, st := f.w, f.st
	p0, np, s0, s1 := share(i, f.per, f.groups, w.panels(), st.n)
	cols := min(np*PanelRows, w.rows-p0*PanelRows)
	if f.fused {
		t := blockProductI16{f: f, pairs: f.form.pairs(w.cols), tile: &buf.tile}
		t.fused(p0, cols)
	}
	switch {
	case f.fused:
	case st.n == 1 && f.strip() != nil:
		f.multiplyStrip(buf, p0, cols, f.strip())
	default:
		for q := 0; q < np; q += panelsAtOnce(s1 - s0) {
			f.multiplyWidened(buf, p0+q, min(np-q, panelsAtOnce(s1-s0)), s0, s1)
		}
	}
	for r := st.m * s0 / st.n; r < st.m*s1/st.n; r++ {
		mulBy(f.lv, f.y[r*w.rows+p0*PanelRows:][:cols], f.form.factor[p0*PanelRows:])
	}
}

// strip returns the kernels that multiply the only strip of X by weights in their stored form, nil if
// there are none.
func (f *int16Product) strip() *[nWide]stripI16Func {
	if !f.w.fusedI16(f.lv) {
		return nil
	}
	set := stripKernelsI16(f.lv, f.w.format)
	if set == nil || set[f.m][0] == nil {
		return nil
	}
	return &set[f.m]
}

// multiplyStrip multiplies the only strip of X by cols rows of W, from panel p0 on, in their stored
// form. The order of sums is that of multiplyWidened.
func (f *int16Product) multiplyStrip(buf *workerBuf, p0, cols int, kernels *[nWide]stripI16Func) {
	w := f.w
	full := cols / PanelRows
	for b, k0 := 0, 0; k0 < w.cols; b, k0 = b+1, k0+blockK {
		kc := min(blockK, w.cols-k0)
		a, scale := &f.rounded[b*f.stride()], &f.factors[k0/scaleCols*f.m]
		call := func(kernel stripI16Func, p, n int, c *float32, ldc int) {
			stored, ps := w.stored(p0+p, n, k0, kc)
			var table *int16
			if f.form.tables > 0 {
				table = &f.form.tablesOf(p0 + p)[0]
			}
			kernel(f.form.pairs(kc), a, scale, (*byte)(stored), ps, table, c, ldc, min(k0, 1))
		}
		p := 0
		for wide := nWide - 1; wide >= 0; wide-- {
			for n := 1 << wide; kernels[wide] != nil && p+n <= full; p += n {
				y := f.y[(p0+p)*PanelRows:]
				_ = y[(f.m-1)*w.rows+n*PanelRows-1]
				call(kernels[wide], p, n, &y[0], w.rows)
			}
		}
		if rest := cols % PanelRows; rest > 0 {
			y := f.y[(p0+full)*PanelRows:]
			for r := 0; r < f.m && k0 > 0; r++ { // the kernel adds to it
				copy(buf.tile[r*PanelRows:], y[r*w.rows:][:rest])
			}
			call(kernels[0], full, 1, &buf.tile[0], PanelRows)
			copyTile(&buf.tile, 0, f.m, rest, y, w.rows)
		}
	}
}

// multiplyWidened multiplies the strips [s0, s1) of X by the panels [p0, p0+np).
func (f *int16Product) multiplyWidened(buf *workerBuf, p0, np, s0, s1 int) {
	w, st := f.w, f.st
	cols := min(np*PanelRows, w.rows-p0*PanelRows)
	for b, k0 := 0, 0; k0 < w.cols; b, k0 = b+1, k0+blockK {
		kc := min(blockK, w.cols-k0)
		t := blockProductI16{f: f, pairs: f.form.pairs(kc), add: min(k0, 1), tile: &buf.tile}
		f.widen(buf, p0, np, k0, kc)
		for s := s0; s < s1; s++ {
			r0, mr := st.rows(s)
			a, scale := f.rounded[k0:], f.factors[k0/scaleCols:]
			if f.m > 1 {
				a = f.rounded[(b*st.n+s)*f.stride():]
				scale = f.factors[s*f.scales*f.set.mr+k0/scaleCols*mr:]
			}
			t.multiply(mr, a, scale, buf.pairs, cols, f.y[r0*w.rows+p0*PanelRows:], w.rows)
		}
	}
}

// panelsAtOnce returns how many weight panels to widen before they are multiplied: those of a job if
// several strips are multiplied by them, else as many as stay in the first-level cache.
func panelsAtOnce(strips int) int {
	if strips == 1 {
		return 2
	}
	return jobPanels
}

// int16Panel is the number of int16 in one panel of a block.
const int16Panel = blockK * PanelRows

// widen writes columns [k0, k0+kc) of panels [p0, p0+np) to buf.pairs.
func (f *int16Product) widen(buf *workerBuf, p0, np, k0, kc int) {
	if buf.pairs == nil {
		buf.pairs = make([]int16, jobPanels*int16Panel)
	}
	w, form := f.w, f.form
	for p := range np {
		dst := buf.pairs[p*int16Panel:][:int16Panel]
		b, _ := w.stored(p0+p, 1, k0, kc)
		loads := kc / form.block
		if form.tables > 0 {
			loads = (kc + form.block - 1) / form.block
		}
		if loads > 0 {
			widenI16(f.lv, w.format, dst, b, form.tablesOf(p0+p), loads)
		}
		if form.tables == 0 && kc%2 == 1 { // the last int8 column is not half of a pair
			last := w.i8[((p0+p)*w.cols+k0+kc-1)*PanelRows:]
			for r := range PanelRows {
				dst[(loads*PanelRows+r)*2], dst[(loads*PanelRows+r)*2+1] = int16(last[r]), 0
			}
		}
	}
}

// tablesOf returns the tables of a panel and of those that follow.
func (f *int16Form) tablesOf(panel int) []int16 { return f.table[panel*f.tables*32:] }

// blockProductI16 multiplies packed strips by panels for one block of k.
type blockProductI16 struct {
	f     *int16Product
	pairs int
	add   int
	tile  *[maxStrip * PanelRows]float32
}

// multiply computes cols columns of C, whose rows are ldc apart, for one strip.
func (t *blockProductI16) multiply(mr int, a []int16, scale []float32, b []int16, cols int, c []float32, ldc int) {
	_ = a[2*t.pairs*mr-1]
	_ = scale[(2*t.pairs+scaleCols-1)/scaleCols*mr-1]
	_ = c[(mr-1)*ldc+cols-1]
	funcs := &t.f.set.funcs[mr]
	full, p := cols/PanelRows, 0
	for wide := nWide - 1; wide >= 0; wide-- {
		f, np := funcs[wide], 1<<wide
		if f == nil {
			continue
		}
		for ; p+np <= full; p += np {
			f(t.pairs, &a[0], &scale[0], &b[p*int16Panel], int16Panel, &c[p*PanelRows], ldc, t.add)
		}
	}
	if rest := cols % PanelRows; rest > 0 {
		c = c[full*PanelRows:]
		for r := 0; r < mr && t.add != 0; r++ { // the kernel adds to it
			copy(t.tile[r*PanelRows:], c[r*ldc:][:rest])
		}
		funcs[0](t.pairs, &a[0], &scale[0], &b[full*int16Panel], int16Panel, &t.tile[0], PanelRows, t.add)
		copyTile(t.tile, 0, mr, rest, c, ldc)
	}
}

// fused multiplies all rows of X by cols rows of W, from panel p0 on, in their stored form, in the
// order of f32Product.multiplyStored.
func (t *blockProductI16) fused(p0, cols int) {
	f, w, form := t.f, t.f.w, t.f.form
	b, ps := w.stored(p0, panelsOf(cols), 0, w.cols)
	set := fusedKernelsI16(f.lv, w.format)
	call := func(kernel fusedI16Func, r, p int, c *float32) {
		var table *int16
		if form.tables > 0 {
			table = &form.tablesOf(p0 + p)[0]
		}
		kernel(t.pairs, &f.rounded[r*f.cols], &f.factors[r*f.scales], (*byte)(unsafe.Add(b, p*ps)), ps, table, c, 0)
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
			call(set[0], r, full, &t.tile[0])
			copy(f.y[r*w.rows+(p0+full)*PanelRows:][:rest], t.tile[:])
		}
	}
}

// fusedRowsI16 is fusedRows for arithmetic I16.
const fusedRowsI16 = 2
