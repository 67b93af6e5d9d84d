package kernel

import "fmt"

const (
	// maxRows is the most rows of X that are packed at once: it bounds the memory
	// of a product, and is enough to pay for widening the weights.
	maxRows = 1024
	// jobPanels is the most weight panels that one job widens at a time: 128 KiB of
	// float32, which stays in the second-level cache while strips of X pass by.
	jobPanels = 8
	// serialWork is the multiply-adds below which waking workers costs more than
	// it saves.
	serialWork = 32 << 10
)

// workspace is the buffers of one product under way.
type workspace struct {
	packed  []float32   // X in strips: [block of k][strip][k][rows of the strip]
	workers []workerBuf // one for each worker
	sum     []float32   // a product that is added to Y as a whole

	// What MulT is at. Kept here, with its loops bound to it once, because closures of
	// their own would be allocated for every product.
	fwd       forward
	pack, job func(worker, i int)

	// The same for products in 16-bit integers.
	rounded              []int16   // rows of X, or strips of them as packed
	factors              []float32 // of the blocks of the rows of X
	fwd16                forwardI16
	round, pack16, job16 func(worker, i int)

	// The same for products on tiles.
	hi, lo              []uint16
	fwdTiles            tileProduct
	packTiles, jobTiles func(worker, i int)
}

// forward is one product Y = X·Wᵀ, or Y += with add 1, of at most maxRows rows.
type forward struct {
	lv           isa
	set          *gemmSet
	st           strips
	y, x, packed []float32
	m            int
	w            *Matrix
	add          int
	per, groups  int // panels in a job, groups of strips
	fused        bool
	round        bool // operands to bfloat16
}

type workerBuf struct {
	wide    []float32   // widened weights, [panel][k][16]
	panel   []float32   // columns of one panel, widened, on their way to being turned
	pairs   []int16     // weights as pairs of 16-bit integers, [panel][pair][16][2]
	strip   []int16     // rows of a strip of X, rounded
	halves  [2][]uint16 // weights as pairs of bfloat16, [panel][pair][16][2], the large parts and the small ones
	sums    []float32   // of tiles
	factors []float32   // of their blocks
	tile    [maxStrip * PanelRows]float32
	scratch Scratch
}

func (p *Pool) takeWorkspace() *workspace {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		ws := p.free[n-1]
		p.free = p.free[:n-1]
		return ws
	}
	ws := &workspace{workers: make([]workerBuf, p.threads)}
	ws.pack = func(_, s int) { ws.fwd.pack(s) }
	ws.job = func(worker, i int) { ws.fwd.job(&ws.workers[worker], i) }
	ws.packTiles = func(_, s int) { ws.fwdTiles.pack(s) }
	ws.jobTiles = func(worker, i int) { ws.fwdTiles.job(&ws.workers[worker], i) }
	ws.round = func(_, r int) { ws.fwd16.round(r) }
	ws.pack16 = func(worker, s int) { ws.fwd16.pack(&ws.workers[worker], s) }
	ws.job16 = func(worker, i int) { ws.fwd16.job(&ws.workers[worker], i) }
	return ws
}

func (p *Pool) giveWorkspace(ws *workspace) {
	p.mu.Lock()
	p.free = append(p.free, ws)
	p.mu.Unlock()
}

// MulT computes Y = X·Wᵀ. X is [m, Cols] and Y is [m, Rows], both row-major; Y
// must not overlap X. Row i of Y has the same bits whatever m, the thread count
// and the rows around it; see the package comment for the order of sums.
//
// A weight that is infinite or not a number gives, in F32, the outputs that IEEE
// arithmetic gives.
func (p *Pool) MulT(y, x []float32, m int, w *Matrix) {
	p.inRows("MulT", y, x, m, w, w.cols, w.rows, false, p.mulT)
}

// MulTAdd computes Y += X·Wᵀ: as [Pool.MulT], with what Y holds in front of the sum.
func (p *Pool) MulTAdd(y, x []float32, m int, w *Matrix) {
	p.inRows("MulTAdd", y, x, m, w, w.cols, w.rows, true, p.mulT)
}

// inRows computes the product of [m, in] rows of X, maxRows at a time.
func (p *Pool) inRows(name string, y, x []float32, m int, w *Matrix, in, out int, add bool,
	mul func(ws *workspace, y, x []float32, m int, w *Matrix, add int)) {
	if m < 0 || len(x) < m*in || len(y) < m*out {
		panic(fmt.Sprintf("kernel: %s: x has %d elements and y %d for %d rows with a matrix [%d, %d]",
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
	ws := p.takeWorkspace()
	parts := (m + maxRows - 1) / maxRows
	most := ((m+parts-1)/parts + tileRows - 1) &^ (tileRows - 1)
	for r := 0; r < m; r += most {
		c := min(most, m-r)
		mul(ws, y[r*out:(r+c)*out], x[r*in:(r+c)*in], c, w, first)
	}
	p.giveWorkspace(ws) // not deferred: after a panic a worker may still hold it
}

// mulT is MulT for at most maxRows rows; add is 1 to add to Y, else 0. Jobs are blocks of
// weight panels, and groups of strips of X where the panels alone are too few for the
// threads.
func (p *Pool) mulT(ws *workspace, y, x []float32, m int, w *Matrix, add int) {
	var form *int16Form
	if p.compute == I16 && I16.available() {
		form = w.int16()
	}
	if add != 0 && (w.scaled || form != nil) { // the factors are not for what y holds
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
	case p.onTiles():
		p.mulTiles(ws, y, x, m, w, false, add)
		return
	}
	round := p.compute == BF16
	set := gemms(lv)
	st := newStrips(set.mr, m)
	per, blocks, groups := p.partition(m, w.panels(), st.n)
	run := p.runFor(m * w.rows * w.cols)

	// A single row is its own packed form; fused kernels take rows as they are.
	f := &ws.fwd
	*f = forward{
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
			runSerial(st.n, ws.pack)
		} else {
			run(st.n, ws.pack)
		}
	}
	run(blocks*groups, ws.job)
	*f = forward{} // it keeps neither X nor Y alive
}

// partition says how many panels of weights make a job, how many jobs that makes, and into
// how many groups of strips of X each is cut where panels alone are too few for the
// threads.
func (p *Pool) partition(m, panels, strips int) (per, blocks, groups int) {
	per = jobPanels
	for p.threads > 1 && per > 2 && (panels+per-1)/per < 6*p.threads && (m > 1 || per > 4) {
		per /= 2
	}
	blocks = (panels + per - 1) / per
	groups = 1
	if p.threads > 1 {
		groups = min(strips, max(1, 2*p.threads/blocks))
	}
	return per, blocks, groups
}

// share returns the panels [p0, p0+np) and the strips [s0, s1) of job i, for the partition given by
// per and groups.
func share(i, per, groups, panels, strips int) (p0, np, s0, s1 int) {
	p0 = i / groups * per
	g := i % groups
	return p0, min(per, panels-p0), strips * g / groups, strips * (g + 1) / groups
}

// runFor returns what runs the loops of a product of so many multiply-adds.
func (p *Pool) runFor(work int) func(n int, f func(worker, i int)) {
	if p.threads == 1 || work < serialWork {
		return runSerial
	}
	return p.Run
}

// pack packs strip s of X.
func (f *forward) pack(s int) { f.st.packAll(f.lv, f.packed, f.x, f.w.cols, s, f.round) }

// job computes one block of panels for one group of strips.
func (f *forward) job(buf *workerBuf, i int) {
	w, st := f.w, f.st
	p0, np, s0, s1 := share(i, f.per, f.groups, w.panels(), st.n)
	cols := min(np*PanelRows, w.rows-p0*PanelRows)
	if f.fused {
		f.multiplyStored(buf, p0, cols)
	}
	for b, k0 := 0, 0; k0 < w.cols && !f.fused; b, k0 = b+1, k0+blockK {
		kc := min(blockK, w.cols-k0)
		t := tiles{lv: f.lv, set: f.set, kc: kc, add: max(f.add, min(k0, 1)), tile: &buf.tile}
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

// unscaled is the factors of 16 rows that have none, or get theirs later.
var unscaled = [PanelRows]float32{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}

// fusedRows is the most rows of X for which weights are multiplied in their
// stored form, row after row while they are in the cache; for more rows it is
// cheaper to widen them once. (Measured on Zen 4.)
func fusedRows(f format) int {
	if f == formatF16 || f == formatBF16 {
		return 4
	}
	return 2
}

func runSerial(n int, f func(worker, i int)) {
	for i := range n {
		f(0, i)
	}
}

// widen returns np panels from p0 on, columns [k0, k0+kc), as float32 panels and
// the distance between two of them, without the factors of rows; rounded to bfloat16 if
// round is set. Only float32 weights that are not rounded are used in place.
func (w *Matrix) widen(lv isa, buf *workerBuf, p0, np, k0, kc int, round bool) (wide []float32, stride int) {
	if w.format == formatF32 && !round {
		return w.f32[(p0*w.cols+k0)*PanelRows:], w.cols * PanelRows
	}
	const ps = blockK * PanelRows
	buf.wide = grow(buf.wide, jobPanels*ps+PanelRows)
	for p := range np {
		dst := buf.wide[p*ps : (p+1)*ps]
		w.widenPanel(lv, dst, p0+p, k0, kc, unscaled[:])
		if round {
			roundToBF16(lv, dst[:kc*PanelRows])
		}
	}
	return buf.wide, ps
}

// widenPanel writes columns [k0, k0+kc) of one panel as [k][16] float32. k0 is a
// multiple of 16; look-up formats write up to the next multiple of their 8 or 16
// columns. scale holds the factors to apply, one for each row.
func (w *Matrix) widenPanel(lv isa, dst []float32, panel, k0, kc int, scale []float32) {
	at, n := (panel*w.cols+k0)*PanelRows, kc*PanelRows
	switch w.format {
	case formatF32:
		copy(dst[:n], w.f32[at:at+n])
	case formatF16:
		widenF16(lv, dst[:n], w.u16[at:at+n])
	case formatBF16:
		widenBF16(lv, dst[:n], w.u16[at:at+n])
	case formatInt8:
		widenInt8(lv, dst[:n], w.i8[at:at+n], scale)
	case formatLUT4, formatLUT2:
		field, per := w.field()
		blocks := (kc + per - 1) / per
		src := w.dwords[(panel*((w.cols+per-1)/per)+k0/per)*PanelRows:][:blocks*PanelRows]
		widenLUT(lv, field, dst[:blocks*per*PanelRows], src, w.table[panel*PanelRows:][:PanelRows], scale)
	case formatLUT8:
		widenLUT8(lv, dst[:n], w.u8[at:at+n], w.table, w.base[panel*PanelRows:][:PanelRows], scale)
	}
}
