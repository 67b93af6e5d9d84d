package kernel

import "fmt"

// gramRows is the number of rows of a Gram matrix in one job: several strips at every level, which
// amortizes the packing of the other operand.
const gramRows = 84

// AddGram adds XᵀX to the upper triangle of h [d, d]; X is [n, d], both row-major.
// Rows of X are summed in blocks of 256, one chain of multiply-adds each, in ascending order. The
// lower triangle is unspecified until [Symmetrize] fills it.
func (p *Pool) AddGram(h, x []float32, n, d int) {
	if len(h) < d*d || len(x) < n*d {
		panic(fmt.Sprintf("kernel: AddGram: h has %d elements and x %d, for n %d and d %d", len(h), len(x), n, d))
	}
	if n == 0 || d == 0 {
		return
	}
	ws := p.getWorkspace()
	p.Run((d+gramRows-1)/gramRows, func(worker, i int) {
		r0 := i * gramRows
		rows := min(gramRows, d-r0)
		ws.workers[worker].scratch.MulTNAdd(rows, d-r0, n, x[r0:], d, x[r0:], d, h[r0*d+r0:], d)
	})
	p.putWorkspace(ws)
}

// AddCross adds AᵀB to h [da, db]; A is [n, da] and B [n, db], all row-major. The order of sums is
// that of [Pool.AddGram].
func (p *Pool) AddCross(h, a, b []float32, n, da, db int) {
	if len(h) < da*db || len(a) < n*da || len(b) < n*db {
		panic(fmt.Sprintf("kernel: AddCross: h, a and b have %d, %d and %d elements, for n %d and a result [%d, %d]", len(h), len(a), len(b), n, da, db))
	}
	if n == 0 || da == 0 || db == 0 {
		return
	}
	ws := p.getWorkspace()
	p.Run((da+gramRows-1)/gramRows, func(worker, i int) {
		r0 := i * gramRows
		ws.workers[worker].scratch.MulTNAdd(min(gramRows, da-r0), db, n, a[r0:], da, b, db, h[r0*db:], db)
	})
	p.putWorkspace(ws)
}

// Symmetrize copies the upper triangle of h [d, d] to the lower one.
func Symmetrize(h []float32, d int) {
	const block = 64 // columns of a block that fits in the cache
	for i0 := 0; i0 < d; i0 += block {
		for j0 := 0; j0 <= i0; j0 += block {
			for i := i0; i < min(i0+block, d); i++ {
				for j := j0; j < min(j0+block, i); j++ {
					h[i*d+j] = h[j*d+i]
				}
			}
		}
	}
}
