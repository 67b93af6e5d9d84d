package main

import "fmt"

// lookup converts packed indices to float32 weights. Table entries are half-precision values (PackLUT
// ensures it), and the 16 entries are two vectors of their lower and upper bytes: one instruction looks
// up a byte for all 16 rows.
//
// A block of a panel is 16 dwords, one for each row. Read as planes, byte i of all rows is one vector
// whose fields of 2 or 4 bits are indices. For indices of 2 bits it suffices to clear the bits above
// 4, because their table is repeated.
type lookup struct {
	fn     *function
	field  int // bits of an index, 2 or 4
	lo, hi V
}

func newLookup(fn *function, field int, table R, offset int) lookup {
	l := lookup{fn: fn, field: field, lo: fn.vec(), hi: fn.vec()}
	v, h := fn.vecs(4), fn.vecs(2)
	fn.loads(v, table, offset)
	fn.narrowHalves(h, v)
	fn.uzp1("B16", l.lo, h[0], h[1])
	fn.uzp2("B16", l.hi, h[0], h[1])
	fn.drop(v...)
	fn.drop(h...)
	return l
}

// columns returns the number of columns in a dword.
func (l lookup) columns() int { return 32 / l.field }

// take writes the 16 weights of column c of a block to w. mask has 15 in every byte.
func (l lookup) take(w, planes []V, mask V, c int) {
	fn, per := l.fn, 8/l.field
	idx, lo, hi := w[0], w[1], w[2]
	from, shift := planes[c/per], c%per*l.field
	if shift > 0 {
		fn.ushrByte(idx, from, shift)
		from = idx
	}
	if shift < 4 {
		fn.and(idx, from, mask)
	}
	fn.tbl(lo, l.lo, idx)
	fn.tbl(hi, l.hi, idx)
	fn.zip1("B16", w[0], lo, hi)
	fn.zip2("B16", w[3], lo, hi)
	fn.fcvtl2Half(w[1], w[0])
	fn.fcvtlHalf(w[0], w[0])
	fn.fcvtlHalf(w[2], w[3])
	fn.fcvtl2Half(w[3], w[3])
}

// widenLUT writes a panel of packed indices as float32.
func widenLUT(o *file, field int) {
	fn := o.begin(fmt.Sprintf("widenLUT%dNEON", field), "dst *float32, src *uint32, table, scale *float32, blocks int", "",
		fmt.Sprintf("widens blocks of %d columns; see widenLUTGo.", 32/field))
	dst, src, blocks := fn.arg("dst"), fn.arg("src"), fn.arg("blocks")
	look := newLookup(fn, field, fn.arg("table"), 0)
	scale, mask := fn.vecs(4), fn.vec()
	fn.loads(scale, fn.arg("scale"), 0)
	fn.bytesImm(mask, 15)
	planes, w := fn.vecs(4), fn.vecs(4)
	fn.loop("loop", blocks, 1, func() {
		fn.loadPlanes(planes, src)
		fn.add(panelStep, src)
		for c := range look.columns() {
			look.take(w, planes, mask, c)
			for i := range w {
				fn.fmul(w[i], w[i], scale[i])
			}
			fn.stores(w, dst, 0)
			fn.add(panelStep, dst)
		}
	})
	fn.ret()
}

// widenBytes writes a panel of one-byte indices as float32, one at a time, because NEON has no gather.
// The addresses of the 16 tables and the factors of rows are in registers.
func widenBytes(o *file) {
	fn := o.begin("widenLUT8NEON", "dst *float32, src *uint8, table *float32, base *int32, scale *float32, cols int", "",
		"widens one panel of byte indices; see widenLUT8Go.")
	dst, src, cols := fn.arg("dst"), fn.arg("src"), fn.arg("cols")
	table, base, scale := fn.arg("table"), fn.arg("base"), fn.arg("scale")
	idx := fn.reg()
	factor, w := fn.vecs(panelRows), fn.vecs(2)
	var tables []R
	for r, f := range factor {
		fn.loadLane(f, scale, 4*r)
		t := fn.reg()
		fn.op("MOVW", mem(base, 4*r), t)
		fn.op("ADD", fmt.Sprintf("R%d<<2", t), table, t)
		tables = append(tables, t)
	}
	fn.loop("loop", cols, 1, func() {
		for r := 0; r < panelRows; r += 2 {
			for i, v := range w {
				fn.op("MOVBU", mem(src, r+i), idx)
				fn.op("FMOVS", fmt.Sprintf("(R%d)(R%d<<2)", tables[r+i], idx), v.f())
				fn.op("FMULS", factor[r+i].f(), v.f(), v.f())
			}
			fn.op("FSTPS", fmt.Sprintf("(F%d, F%d)", w[0], w[1]), mem(dst, 4*r))
		}
		fn.add(panelRows, src)
		fn.add(panelStep, dst)
	})
	fn.ret()
}
