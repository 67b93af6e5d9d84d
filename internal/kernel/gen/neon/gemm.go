package main

import "fmt"

const (
	panelRows = 16            // weight rows in a panel
	perPanel  = 4             // vectors in one row of a panel
	panelStep = 4 * panelRows // bytes in one row of a panel
	tallest   = 6             // rows of the tallest microkernel: 24 of 32 registers hold sums
)

// microkernel writes C[mr][16·np] (+)= A[k][mr]·B, one chain of fused
// multiply-adds for each element of C. Four columns of A are read as mr vectors and
// multiplied by lane; at most three of these are held at a time.
func microkernel(o *file, mr, np int) {
	name := fmt.Sprintf("gemmNEON_%dx%d", mr, np)
	fn := o.begin(name, "kc int, a, b *float32, ps int, c *float32, ldc, add int", "",
		"is a gemmFunc: rows of A x panels of B.")
	kc, a := fn.arg("kc"), fn.arg("a")
	panels := fn.strided("b", "ps", 2, np)
	acc := make([][]V, mr)
	for r := range acc {
		acc[r] = fn.zeros(np * perPanel)
	}
	bv, av := fn.vecs(perPanel), fn.vecs(3)
	// step multiplies one column, whose element r is lane x(r).
	step := func(u int, x func(r int) (V, int)) {
		for p, panel := range panels {
			fn.loads(bv, panel, u*panelStep)
			for r := range mr {
				m, lane := x(r)
				for v, w := range bv {
					fn.fmlaLane(acc[r][p*perPanel+v], w, m, lane)
				}
			}
		}
	}
	advance := func(columns int) {
		fn.add(4*mr*columns, a)
		fn.add(panelStep*columns, panels...)
	}

	const unroll = 4
	fn.op("SUBS", imm(unroll), kc)
	fn.op("BLT", "rest")
	fn.label("unrolled")
	read := 0 // number of vectors of A read
	for u := range unroll {
		step(u, func(r int) (V, int) {
			e := u*mr + r
			for ; read <= e/4; read++ {
				fn.load(av[read%3], a, 16*read)
			}
			return av[e/4%3], e % 4
		})
	}
	advance(unroll)
	fn.op("SUBS", imm(unroll), kc)
	fn.op("BGE", "unrolled")
	fn.label("rest")
	fn.op("ADDS", imm(unroll), kc)
	fn.op("BEQ", "store")
	fn.loop("loop", kc, 1, func() {
		step(0, func(r int) (V, int) {
			fn.loadLane(av[r%3], a, 4*r)
			return av[r%3], 0
		})
		advance(1)
	})
	fn.label("store")
	c, ldc := fn.arg("c"), fn.arg("ldc")
	fn.storeSums(acc, bv[:2], c, ldc)
}

// storeSums ends a product: it stores the rows of acc in rows of C that are ldc floats apart, or adds
// them to C if the parameter add is not zero.
func (fn *function) storeSums(acc [][]V, tmp []V, c, ldc R) {
	write := func(sum bool) {
		for r := range acc {
			for v := 0; v < len(acc[r]); v += 2 {
				if sum {
					fn.loads(tmp, c, 16*v)
					fn.fadd(acc[r][v], acc[r][v], tmp[0])
					fn.fadd(acc[r][v+1], acc[r][v+1], tmp[1])
				}
				fn.stores(acc[r][v:v+2], c, 16*v)
			}
			if r < len(acc)-1 {
				fn.op("ADD", fmt.Sprintf("R%d<<2", ldc), c)
			}
		}
		fn.ret()
	}
	fn.op("CBZ", fn.arg("add"), "first")
	write(true)
	fn.label("first")
	write(false)
}
