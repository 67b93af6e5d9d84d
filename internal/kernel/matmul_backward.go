package kernel

// Mul computes Y = X·W, the product of a backward pass. X is [m, Rows] and Y is [m, Cols], both
// row-major; Y must not overlap X. The sum over the rows of W has the order of [Pool.MulT], so
// that the bits of row i of Y depend neither on m nor on the thread count.
func (p *Pool) Mul(y, x []float32, m int, w *Matrix) {
	p.inChunks("Mul", y, x, m, w, w.rows, w.cols, false, p.mul)
}

// MulAdd computes Y += X·W; otherwise it is like [Pool.Mul].
func (p *Pool) MulAdd(y, x []float32, m int, w *Matrix) {
	p.inChunks("MulAdd", y, x, m, w, w.rows, w.cols, true, p.mul)
}

// mul is Mul for at most maxRows rows; add is 1 to add to Y, else 0. A job is a block of
// 16·jobPanels columns of W for one group of strips of X; there is more than one group if the
// blocks alone are too few for the threads.
func (p *Pool) mul(ws *workspace, y, x []float32, m int, w *Matrix, add int) {
	if p.usesAMX() {
		p.mulAMX(ws, y, x, m, w, true, add)
		return
	}
	lv, round := currentISA(), p.compute == BF16
	set := gemms(lv)
	st := newStrips(set.mr, m)
	const width = jobPanels * PanelRows
	blocks := (w.cols + width - 1) / width
	groups := 1
	if p.threads > 1 {
		groups = min(st.n, max(1, 2*p.threads/blocks))
	}
	run := p.runFor(m * w.rows * w.cols)
	kBlocks := (w.rows + blockK - 1) / blockK
	ws.packed = grow(ws.packed, kBlocks*st.n*st.stride)
	run(st.n, func(_, s int) { st.packAll(lv, ws.packed, x, w.rows, s, round) })
	run(blocks*groups, func(worker, i int) {
		buf := &ws.workers[worker]
		c0 := i / groups * width
		cols := min(width, w.cols-c0)
		g := i % groups
		s0, s1 := st.n*g/groups, st.n*(g+1)/groups
		for b, k0 := 0, 0; k0 < w.rows; b, k0 = b+1, k0+blockK {
			kc := min(blockK, w.rows-k0)
			t := blockProduct{lv: lv, set: set, kc: kc, add: max(add, min(k0, 1)), tile: &buf.tile}
			wide := w.widenTransposed(lv, buf, c0, cols, k0, kc)
			if round {
				for c := 0; c < cols; c += PanelRows {
					roundToBF16(lv, wide[c*blockK:][:kc*PanelRows])
				}
			}
			for s := s0; s < s1; s++ {
				r0, mr := st.rows(s)
				t.multiply(mr, ws.packed[(b*st.n+s)*st.stride:], wide, blockK*PanelRows, cols, y[r0*w.cols+c0:], w.cols)
			}
		}
	})
}
