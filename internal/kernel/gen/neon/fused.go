package main

import "fmt"

// blockK is the length of one chain of multiply-adds. It is a multiple of the unrolling of the loops
// below, so that only the last block has a remainder.
const blockK = 256

// frame is the part common to the two kinds of fused kernels: the loop over blocks.
type frame struct {
	*function
	left, kc, x R // columns after this block, in this block; X
	c, sum      R // sum is zero for the first block
	panels      []R
	acc         []V // [np·perPanel]
}

func newFrame(o *file, format string, np int) frame {
	fn := o.begin(fmt.Sprintf("fused%sNEON_%d", format, np),
		"kc int, x *float32, b *byte, ps int, table *float32, c *float32, add int", "",
		fmt.Sprintf("is a fusedFunc for %d panels.", np))
	return frame{
		function: fn, left: fn.arg("kc"), kc: fn.reg(), x: fn.arg("x"), c: fn.arg("c"), sum: fn.arg("add"),
		panels: fn.strided("b", "ps", 0, np), acc: fn.vecs(np * perPanel),
	}
}

// blocks writes the loop over blocks of columns; the code of body jumps or falls through to store.
func (f frame) blocks(tmp []V, body func()) {
	f.label("next")
	for _, v := range f.acc {
		f.eor(v, v, v)
	}
	f.op("MOVD", imm(blockK), f.kc)
	f.op("CMP", f.kc, f.left)
	f.op("CSEL", "LT", f.left, f.kc, f.kc)
	f.op("SUB", f.kc, f.left)
	body()
	f.label("store")
	f.op("CBZ", f.sum, "first")
	for i := 0; i < len(f.acc); i += 2 {
		f.loads(tmp[:2], f.c, 16*i)
		f.fadd(f.acc[i], f.acc[i], tmp[0])
		f.fadd(f.acc[i+1], f.acc[i+1], tmp[1])
	}
	f.label("first")
	f.stores(f.acc, f.c, 0)
	f.op("MOVD", imm(1), f.sum)
	f.op("CBNZ", f.left, "next")
	f.ret()
}

// multiply adds a lane of x times 16 weights to the sums of a panel.
func (f frame) multiply(panel int, w []V, x V, lane int) {
	for i, v := range w {
		f.fmlaLane(f.acc[panel*perPanel+i], v, x, lane)
	}
}

// fusedDense multiplies one row by panels of dense weights.
func fusedDense(o *file, d dense, np int) {
	f := newFrame(o, d.name(), np)
	r, w, x := newReader(f.function, d), f.vecs(4), f.vec()
	row := panelRows * d.bytes()
	column := func(u, lane int) {
		for p, panel := range f.panels {
			r.read(w, panel, u*row)
			f.multiply(p, w, x, lane)
		}
	}
	const unroll = 4
	f.blocks(w, func() {
		f.op("SUBS", imm(unroll), f.kc)
		f.op("BLT", "rest")
		f.label("unrolled")
		f.load(x, f.x, 0)
		for u := range unroll {
			column(u, u)
		}
		f.add(4*unroll, f.x)
		f.add(row*unroll, f.panels...)
		f.op("SUBS", imm(unroll), f.kc)
		f.op("BGE", "unrolled")
		f.label("rest")
		f.op("ADDS", imm(unroll), f.kc)
		f.op("BEQ", "store")
		f.loop("loop", f.kc, 1, func() {
			f.loadLane(x, f.x, 0)
			column(0, 0)
			f.add(4, f.x)
			f.add(row, f.panels...)
		})
	})
}

// fusedLUT multiplies one row by panels of packed indices.
func fusedLUT(o *file, field, np int) {
	f := newFrame(o, fmt.Sprintf("LUT%d", field), np)
	table := f.arg("table")
	var look []lookup
	var planes [][]V
	for p := range np {
		look = append(look, newLookup(f.function, field, table, p*panelStep))
	}
	for range np {
		planes = append(planes, f.vecs(4))
	}
	mask, w, x := f.vec(), f.vecs(4), f.vec()
	f.bytesImm(mask, 15)
	load := func() {
		for p, panel := range f.panels {
			f.loadPlanes(planes[p], panel)
		}
	}
	column := func(c, lane int) {
		for p := range f.panels {
			look[p].take(w, planes[p], mask, c)
			f.multiply(p, w, x, lane)
		}
	}
	columns := look[0].columns()
	f.blocks(w, func() {
		f.op("SUBS", imm(columns), f.kc)
		f.op("BLT", "rest")
		f.label("block")
		load()
		for c := range columns {
			if c%4 == 0 {
				f.load(x, f.x, 4*c)
			}
			column(c, c%4)
		}
		f.add(4*columns, f.x)
		f.add(panelStep, f.panels...)
		f.op("SUBS", imm(columns), f.kc)
		f.op("BGE", "block")
		f.label("rest")
		f.op("ADDS", imm(columns), f.kc)
		f.op("BEQ", "store")
		load() // the last block of columns is partial
		for c := range columns - 1 {
			f.loadLane(x, f.x, 4*c)
			column(c, 0)
			if c < columns-2 {
				f.op("SUBS", imm(1), f.kc)
				f.op("BEQ", "store")
			}
		}
	})
}
