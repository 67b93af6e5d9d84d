package main

import "fmt"

// transpose writes the transposition of blocks of 4 columns of up to 4 or 8 rows. The addresses of rows
// past the last are that of the last, so that nothing outside the matrix is read.
func transpose(o *file, lanes int) {
	fn := o.begin(fmt.Sprintf("transposeNEON%d", lanes), "dst *float32, step int, src *float32, ld, rows, blocks int", "",
		fmt.Sprintf(`writes dst[k*step+r] = src[r*ld+k] for r < rows <= %d and
// k < 4*blocks, in ascending k. Every k stores %d lanes: those from rows on hold
// copies of the last row until the next k overwrites them.`, lanes, lanes))
	dst, step, src, ld := fn.arg("dst"), fn.arg("step"), fn.arg("src"), fn.arg("ld")
	rows, blocks := fn.arg("rows"), fn.arg("blocks")
	fn.op("LSL", imm(2), step, step)
	row := []R{src}
	for r := 1; r < lanes; r++ {
		p, last := fn.reg(), row[r-1]
		fn.op("ADD", fmt.Sprintf("R%d<<2", ld), last, p)
		fn.op("CMP", imm(r), rows)
		fn.op("CSEL", "GT", p, last, p)
		row = append(row, p)
	}
	in, t, out := fn.vecs(lanes), fn.vecs(4), fn.vecs(lanes)
	fn.loop("loop", blocks, 1, func() {
		for r, v := range in {
			fn.op("FMOVQ.P", mem(row[r], 16), v.f())
		}
		for g := 0; g < lanes; g += 4 {
			x, y := in[g:], out[g:]
			fn.trn1("S4", t[0], x[0], x[1]) // columns 0, 2 of rows 0, 1
			fn.trn2("S4", t[1], x[0], x[1]) // columns 1, 3
			fn.trn1("S4", t[2], x[2], x[3])
			fn.trn2("S4", t[3], x[2], x[3])
			fn.trn1("D2", y[0], t[0], t[2])
			fn.trn1("D2", y[1], t[1], t[3])
			fn.trn2("D2", y[2], t[0], t[2])
			fn.trn2("D2", y[3], t[1], t[3])
		}
		for k := range 4 {
			for g := 0; g < lanes; g += 4 {
				fn.store(out[g+k], dst, 4*g)
			}
			fn.op("ADD", step, dst)
		}
	})
	fn.ret()
}

// gather writes the kernel that packs a matrix without transposing it.
func gather(o *file) {
	fn := o.begin("gatherNEON", "dst *float32, step int, src *float32, ld, n int", "", "copies 16 floats from each of n rows, ld apart, to places step apart in ascending order.")
	dst, step, src, ld, n := fn.arg("dst"), fn.arg("step"), fn.arg("src"), fn.arg("ld"), fn.arg("n")
	v := fn.vecs(perPanel)
	fn.loop("loop", n, 1, func() {
		fn.loads(v, src, 0)
		fn.stores(v, dst, 0)
		fn.op("ADD", fmt.Sprintf("R%d<<2", ld), src)
		fn.op("ADD", fmt.Sprintf("R%d<<2", step), dst)
	})
	fn.ret()
}
