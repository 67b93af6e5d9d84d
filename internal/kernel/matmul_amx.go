package kernel

import "unsafe"

// amxBlockK is the number of columns of a block: two panels of it fit in the first-level cache.
const amxBlockK = 512

// amxBlockStrips is the number of strips of X that are multiplied by all panels of a job before the
// next strips: 256 KiB of each part of a block, which fit in the second-level cache.
const amxBlockStrips = 8

// amxPanel is the number of elements of one panel of a block.
const amxPanel = amxBlockK * PanelRows

// amxSums is the number of elements of the four tiles of sums, [row half][panel][16][16].
const amxSums = tileRows * 2 * PanelRows

// amxProduct is one product on AMX tiles, Y = X·Wᵀ or, if back is set, Y = X·W, of at most maxRows
// rows. An operand has one part, the nearest bfloat16, or two: the high part and the low part, which
// is the nearest bfloat16 to the remainder.
type amxProduct struct {
	lv          isa
	mul         tileFunc
	y, x        []float32
	hi, lo      []uint16 // parts of X, [strip][steps][32][32]; lo is nil if X has one part
	m           int
	in, out     int // columns of X and of Y
	strips      int
	steps       int // of 32 columns of X
	w           *Matrix
	form        *amxForm
	order       *[tileCols]uint16 // order of the columns of X in pairs
	parts       int               // number of parts of W
	back        bool
	add         int
	per, groups int
}

// usesAMX reports whether the pool's products run on tiles, or on the Go twin of the tile kernels.
func (p *Pool) usesAMX() bool {
	switch p.compute {
	case Split:
		return Split.available()
	case BF16:
		return tilesInUse()
	}
	return false
}

// mulAMX is mulT or, if back is set, mul, on AMX tiles.
func (p *Pool) mulAMX(ws *workspace, y, x []float32, m int, w *Matrix, back bool, add int) {
	f := &ws.amx
	*f = amxProduct{
		lv: currentISA(), y: y, x: x, m: m, in: w.cols, out: w.rows,
		strips: (m + tileRows - 1) / tileRows,
		w:      w, form: w.amx(), parts: 1, back: back, add: add,
	}
	f.order = f.form.order
	if back {
		f.in, f.out, f.order = w.rows, w.cols, amxAdjacent
	}
	if p.compute == Split {
		f.parts = f.form.parts
		if back { // the widened weights include the factors of rows
			f.parts = 2
		}
	}
	f.mul = tileKernel(p.compute == Split, f.parts)
	f.steps = (f.in + tileCols - 1) / tileCols
	size := f.strips * f.steps * tileStep
	ws.hi = grow(ws.hi, size)
	f.hi = ws.hi
	if p.compute == Split {
		ws.lo = grow(ws.lo, size)
		f.lo = ws.lo
	}
	var blocks int
	f.per, blocks, f.groups = p.partitionAMX(panelsOf(f.out), f.strips)
	run := p.runFor(m * w.rows * w.cols)
	run(f.strips, ws.packAMX)
	run(blocks*f.groups, ws.runAMX)
	*f = amxProduct{}
}

// partitionAMX is partition for products on AMX tiles. Tiles are so fast that a block of a few
// panels would be limited by the bandwidth of reading X. It therefore divides X, down to a few
// strips, before it makes blocks smaller, although weights are then widened more than once.
func (p *Pool) partitionAMX(panels, strips int) (per, blocks, groups int) {
	const minStrips = 4
	maxGroups := (strips + minStrips - 1) / minStrips
	jobs := 1
	if p.threads > 1 {
		jobs = 4 * p.threads
	}
	for per = jobPanels; ; per /= 2 {
		blocks = (panels + per - 1) / per
		if per == 2 || blocks*maxGroups >= jobs {
			break
		}
	}
	return per, blocks, min(maxGroups, max(1, (jobs+blocks-1)/blocks))
}

// pack converts strip s of X to bfloat16. Padding rows and columns are zero.
func (f *amxProduct) pack(s int) {
	size := f.steps * tileStep
	hi := f.hi[s*size:][:size]
	var lo []uint16
	if f.lo != nil {
		lo = f.lo[s*size:][:size]
	}
	whole := f.in / tileCols * tileCols
	for r := range tileRows {
		row := s*tileRows + r
		if row >= f.m {
			for step := range f.steps {
				clear(hi[step*tileStep+r*tileCols:][:tileCols])
				if lo != nil {
					clear(lo[step*tileStep+r*tileCols:][:tileCols])
				}
			}
			continue
		}
		x := f.x[row*f.in:][:f.in]
		if whole > 0 {
			narrowRow(f.lv, sliceFrom(hi, r*tileCols), sliceFrom(lo, r*tileCols), x[:whole], f.order)
		}
		if whole < f.in {
			var last [tileCols]float32
			copy(last[:], x[whole:])
			at := whole/tileCols*tileStep + r*tileCols
			narrowRow(f.lv, sliceFrom(hi, at), sliceFrom(lo, at), last[:], f.order)
		}
	}
}

// sliceFrom returns x[at:], or nil if x is nil.
func sliceFrom(x []uint16, at int) []uint16 {
	if x == nil {
		return nil
	}
	return x[at:]
}

// run executes job i: one block of panels for one group of strips.
func (f *amxProduct) run(buf *workerBuf, i int) {
	p0, np, s0, s1 := share(i, f.per, f.groups, panelsOf(f.out), f.strips)
	n := s1 - s0
	panelPairs := (np + 1) / 2 // an odd last panel is multiplied with unused data
	buf.sums = grow(buf.sums, panelPairs*n*amxSums)
	for part := range buf.parts {
		buf.parts[part] = grow(buf.parts[part], jobPanels*amxPanel)
	}
	for k0 := 0; k0 < f.in; k0 += amxBlockK {
		kc := min(amxBlockK, f.in-k0)
		steps := (kc + tileCols - 1) / tileCols
		f.widen(buf, p0, np, k0, kc)
		for s := 0; s < n; s += amxBlockStrips {
			count := min(amxBlockStrips, n-s)
			at := (s0+s)*f.steps*tileStep + k0*tileRows
			hi, lo := &f.hi[at], (*uint16)(nil)
			if f.lo != nil {
				lo = &f.lo[at]
			}
			for q := range panelPairs {
				f.mul(&tileConfig[0], hi, lo, &buf.parts[0][2*q*amxPanel], &buf.parts[1][2*q*amxPanel], amxPanel,
					&buf.sums[(q*n+s)*amxSums], count, steps, (f.steps-steps)*tileStep, k0)
			}
		}
	}
	f.store(buf, p0, np, s0, n)
}

// store writes the sums of np panels and n strips to Y.
func (f *amxProduct) store(buf *workerBuf, p0, np, s0, n int) {
	for r := s0 * tileRows; r < min((s0+n)*tileRows, f.m); r++ {
		s, half, i := r/tileRows-s0, r%tileRows/PanelRows, r%PanelRows
		for p := range np {
			col := (p0 + p) * PanelRows
			cols := min(PanelRows, f.out-col)
			src := buf.sums[((p/2*n+s)*4+half*2+p%2)*PanelRows*PanelRows+i*PanelRows:][:PanelRows]
			if f.w.scaled && !f.back {
				mulTo(f.lv, src, f.w.scale[col:][:PanelRows])
			}
			dst := f.y[r*f.out+col:][:cols]
			switch {
			case f.add != 0:
				for j := range dst {
					dst[j] += src[j]
				}
			case cols == PanelRows:
				*(*[PanelRows]float32)(dst) = [PanelRows]float32(src)
			default:
				copy(dst, src)
			}
		}
	}
}

// widen writes the parts of panels [p0, p0+np) of W (of Wᵀ, if back is set), columns [k0, k0+kc) of
// X, to buf.parts, padded with zeros to whole steps.
func (f *amxProduct) widen(buf *workerBuf, p0, np, k0, kc int) {
	for k := 0; k < kc; k += blockK {
		n := min(blockK, kc-k)
		if f.back {
			wide := f.w.widenTransposed(f.lv, buf, p0*PanelRows, min(np*PanelRows, f.out-p0*PanelRows), k0+k, n)
			for p := range np {
				f.pairs(buf, p, k, n, wide[p*blockK*PanelRows:])
			}
			continue
		}
		for p := range np {
			if f.form.tables > 0 {
				f.lookUp(buf, p0, p, k0, k, n)
				continue
			}
			buf.wide = grow(buf.wide, jobPanels*blockK*PanelRows+PanelRows)
			f.w.widenPanel(f.lv, buf.wide, p0+p, k0+k, n, unscaled[:])
			f.pairs(buf, p, k, n, buf.wide)
		}
	}
	written := (kc + 1) &^ 1
	if f.form.tables > 0 && !f.back {
		_, per := f.w.field()
		written = (kc + per - 1) / per * per
	}
	whole := (kc + tileCols - 1) &^ (tileCols - 1)
	for p := range np {
		for part := range f.parts {
			clear(buf.parts[part][p*amxPanel:][written*PanelRows : whole*PanelRows])
		}
	}
}

// pairs converts n widened columns, [n][16], to columns [k, k+n) of panel p of buf.parts.
func (f *amxProduct) pairs(buf *workerBuf, p, k, n int, wide []float32) {
	if n%2 == 1 {
		clear(wide[n*PanelRows:][:PanelRows])
		n++
	}
	at := p*amxPanel + k*PanelRows
	hi, lo := buf.parts[0][at:], []uint16(nil)
	if f.parts == 2 {
		lo = buf.parts[1][at:]
	}
	narrowPanel(f.lv, hi, lo, wide[:n*PanelRows])
}

// lookUp looks up the n columns of panel p0+p from k0+k on, as columns [k, k+n) of panel p of
// buf.parts. The last load may extend past them; the activations there are zero.
func (f *amxProduct) lookUp(buf *workerBuf, p0, p, k0, k, n int) {
	_, per := f.w.field()
	src, _ := f.w.stored(p0+p, 1, k0+k, n)
	loads := (n + per - 1) / per
	at := p*amxPanel + k*PanelRows
	tables := [2][]uint16{f.form.hi, f.form.lo}
	for part := range f.parts {
		table := tables[part][(p0+p)*f.form.tables*32:]
		widenI16(f.lv, f.w.format, asInt16(buf.parts[part][at:]), src, asInt16(table), loads)
	}
}

// asInt16 returns bfloat16 as int16 with the same bits: a look-up only copies them.
func asInt16(x []uint16) []int16 {
	return unsafe.Slice((*int16)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

// tileConfig configures all eight tiles as 16 rows of 64 bytes (Intel SDM, LDTILECFG).
var tileConfig = func() *[64]byte {
	c := &[64]byte{0: 1} // palette 1
	for t := range 8 {
		c[16+2*t], c[48+t] = 64, 16
	}
	return c
}()
