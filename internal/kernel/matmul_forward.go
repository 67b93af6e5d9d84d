package kernel

import "fmt"

const (
	// maxRows is the maximum number of rows of X that are packed at once. It bounds the
	// memory of a product, and is large enough to amortize the widening of weights.
	maxRows = 1024
	// jobPanels is the maximum number of weight panels in a job: 128 KiB of float32 for each
	// block, which fit in the second-level cache while all strips of X are multiplied by them.
	jobPanels = 8
	// serialWork is the number of multiply-adds below which a product runs serially, because
	// waking workers would cost more time than it saves.
	serialWork = 32 << 10
)

// f32Product is one product Y = X·Wᵀ, or Y += X·Wᵀ if add is 1, of at most maxRows rows.
type f32Product struct {
	lv           isa
	set          *gemmSet
	st           strips
	y, x, packed []float32
	m            int
	w            *Matrix
	add          int
	per, groups  int // panels in a job, groups of strips
	fused        bool
	round        bool // round operands to bfloat16
}

// MulT computes Y = X·Wᵀ, the product of a forward pass. X is [m, Cols] and Y is [m, Rows], both
// row-major; Y must not overlap X. The bits of row i of Y depend neither on m, nor on the thread
// count, nor on the other rows; the package comment defines the order of sums.
//
// In F32, infinite and NaN weights propagate as in IEEE arithmetic.
func (p *Pool) MulT(y, x []float32, m int, w *Matrix) {
	p.inChunks("MulT", y, x, m, w, w.cols, w.rows, false, p.mulT)
}

// MulTAdd computes Y += X·Wᵀ; otherwise it is like [Pool.MulT].
func (p *Pool) MulTAdd(y, x []float32, m int, w *Matrix) {
	p.inChunks("MulTAdd", y, x, m, w, w.cols, w.rows, true, p.mulT)
}

// inChunks computes a product of X [m, in] to Y [m, out], at most maxRows rows at a time.
func (p *Pool) inChunks(name string, y, x []float32, m int, w *Matrix, in, out int, add bool,
	mul func(ws *workspace, y, x []float32, m int, w *Matrix, add int)) {
	if m < 0 || len(x) < m*in || len(y) < m*out {
		panic(fmt.Sprintf("kernel: %s: x has %d elements and y %d, for %d rows and a matrix [%d, %d]",
			name, len(x), len(y), m, w.rows, w.cols))
	}
	if in == 0 && !add {
		clear(y[:m*out])
	}
	if in == 0 || out == 0 || m == 0 {
		return
	}
	first := 0
	if add {
		first = 1
	}
	ws := p.getWorkspace()
	parts := (m + maxRows - 1) / maxRows
	chunk := ((m+parts-1)/parts + tileRows - 1) &^ (tileRows - 1)
	for r := 0; r < m; r += chunk {
		c := min(chunk, m-r)
		mul(ws, y[r*out:(r+c)*out], x[r*in:(r+c)*in], c, w, first)
	}
	p.putWorkspace(ws) // not deferred: after a panic a worker may still use it
}

// mulT is MulT for at most maxRows rows; add is 1 to add to Y, else 0. A job is a block of weight
// panels for one group of strips of X; there is more than one group if the blocks alone are too
// few for the threads.
func (p *Pool) mulT(ws *workspace, y, x []float32, m int, w *Matrix, add int) {
	var form *int16Form
	if p.compute == I16 && I16.available() {
		form = w.int16()
	}
	if add != 0 && (w.scaled || form != nil) { // the factors must not multiply the old values of y
		ws.sum = grow(ws.sum, len(y))
		p.mulT(ws, ws.sum, x, m, w, 0)
		Add(y, ws.sum)
		return
	}
	lv := currentISA()
	switch {
	case form != nil:
		p.mulTI16(ws, y, x, m, w, form)
		return
	case p.usesAMX():
		p.mulAMX(ws, y, x, m, w, false, add)
		return
	}
	round := p.compute == BF16
	set := gemms(lv)
	st := newStrips(set.mr, m)
	per, blocks, groups := p.partition(m, w.panels(), st.n)
	run := p.runFor(m * w.rows * w.cols)

	// A single row is its own packed form, and fused kernels read rows that are not packed.
	f := &ws.f32
	*f = f32Product{
		lv: lv, set: set, st: st, y: y, x: x, packed: x, m: m, w: w, add: add, per: per, groups: groups,
		fused: m <= fusedRows(w.format) && hasFused(lv, w.format) && !round,
		round: round,
	}
	if round && m == 1 {
		ws.packed = grow(ws.packed, len(x))
		copy(ws.packed, x)
		roundToBF16(lv, ws.packed)
		f.packed = ws.packed
	}
	if m > 1 && !f.fused {
		kBlocks := (w.cols + blockK - 1) / blockK
		ws.packed = grow(ws.packed, kBlocks*st.n*st.stride)
		f.packed = ws.packed
		if m*w.cols < serialWork/4 {
			runSerial(st.n, ws.packF32)
		} else {
			run(st.n, ws.packF32)
		}
	}
	run(blocks*groups, ws.runF32)
	*f = f32Product{} // so that the workspace does not keep X and Y alive
}

// pack packs strip s of X.
func (f *f32Product) pack(s int) { f.st.packAll(f.lv, f.packed, f.x, f.w.cols, s, f.round) }

// run executes job i: one block of panels for one group of strips.
func (f *f32Product) run(buf *workerBuf, i int) {
	w, st := f.w, f.st
	p0, np, s0, s1 := share(i, f.per, f.groups, w.panels(), st.n)
	cols := min(np*PanelRows, w.rows-p0*PanelRows)
	if f.fused {
		f.multiplyStored(buf, p0, cols)
	}
	for b, k0 := 0, 0; k0 < w.cols && !f.fused; b, k0 = b+1, k0+blockK {
		kc := min(blockK, w.cols-k0)
		t := blockProduct{lv: f.lv, set: f.set, kc: kc, add: max(f.add, min(k0, 1)), tile: &buf.tile}
		wide, ps := w.widen(f.lv, buf, p0, np, k0, kc, f.round)
		for s := s0; s < s1; s++ {
			r0, mr := st.rows(s)
			a := f.packed[k0:]
			if f.m > 1 {
				a = f.packed[(b*st.n+s)*st.stride:]
			}
			t.multiply(mr, a, wide, ps, cols, f.y[r0*w.rows+p0*PanelRows:], w.rows)
		}
	}
	if w.scaled {
		r0, r1 := st.m*s0/st.n, st.m*s1/st.n
		for r := r0; r < r1; r++ {
			mulBy(f.lv, f.y[r*w.rows+p0*PanelRows:][:cols], w.scale[p0*PanelRows:])
		}
	}
}
