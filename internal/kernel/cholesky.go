package kernel

import (
	"fmt"
	"math"
)

// cholBlock is the number of columns that are factored at a time.
const cholBlock = 128

// Cholesky replaces the lower triangle of the symmetric matrix a [n, n], row-major, by its Cholesky
// factor L, a = L·Lᵀ. The part above the diagonal is not read; within the diagonal blocks it is
// unspecified afterwards. The algorithm is the blocked right-looking one (Golub and Van Loan,
// "Matrix Computations", 4.2.9): diagonal blocks in float64, the rest as float32 products.
//
// It returns false, and leaves a unspecified, if a pivot is not positive: the matrix is not positive
// definite, or not numerically so in float32.
func (p *Pool) Cholesky(a []float32, n int) bool {
	if len(a) < n*n {
		panic(fmt.Sprintf("kernel: Cholesky: a has %d elements, for n %d", len(a), n))
	}
	ws := p.getWorkspace()
	ok := p.cholesky(ws, a, n)
	p.putWorkspace(ws) // not deferred: after a panic a worker may still use it
	return ok
}

func (p *Pool) cholesky(ws *workspace, a []float32, n int) bool {
	var d diagonal
	minus := make([]float32, n*cholBlock) // -L of the panel below the diagonal block
	for k := 0; k < n; k += cholBlock {
		kb := min(cholBlock, n-k)
		if !d.factor(a[k*n+k:], n, kb) {
			return false
		}
		rest := n - k - kb
		if rest == 0 {
			break
		}
		below := a[(k+kb)*n:]
		jobs := (rest + gramRows - 1) / gramRows
		p.Run(jobs, func(worker, i int) {
			r0 := i * gramRows
			rows := min(gramRows, rest-r0)
			panel := minus[r0*kb:][:rows*kb]
			ws.workers[worker].scratch.MulNT(rows, kb, kb, below[r0*n+k:], n, d.inverse[:], kb, panel, kb)
			for r := range rows {
				copy(below[(r0+r)*n+k:][:kb], panel[r*kb:])
			}
			for j, v := range panel {
				panel[j] = -v
			}
		})
		p.Run(jobs, func(worker, i int) {
			i = jobs - 1 - i // the longest job first
			r0 := i * gramRows
			rows := min(gramRows, rest-r0)
			ws.workers[worker].scratch.MulNTAdd(rows, r0+rows, kb, minus[r0*kb:], kb, below[k:], n, below[r0*n+k+kb:], n)
		})
	}
	return true
}

// diagonal holds the factor of a diagonal block and its inverse.
type diagonal struct {
	l       [cholBlock * cholBlock]float64
	inv     [cholBlock * cholBlock]float64
	inverse [cholBlock * cholBlock]float32 // of L, in float32, [kb, kb]
}

// factor replaces the lower triangle of a [n, n], whose rows are ld apart, by L, and
// computes the inverse of L.
func (d *diagonal) factor(a []float32, ld, n int) bool {
	l, inv := d.l[:n*n], d.inv[:n*n]
	for i := range n {
		row := l[i*n : i*n+i+1]
		for j := range row {
			s := float64(a[i*ld+j])
			other := l[j*n:]
			for k, v := range row[:j] {
				s -= v * other[k]
			}
			if j < i {
				row[j] = s / other[j]
				continue
			}
			if !(s > 0) || math.IsInf(s, 1) {
				return false
			}
			row[i] = math.Sqrt(s)
		}
		for j, v := range row {
			a[i*ld+j] = float32(v)
		}
	}
	// Row i of the inverse: L[i][i]·X[i] = I[i] - Σ L[i][k]·X[k].
	clear(inv)
	for i := range n {
		row := inv[i*n : i*n+i+1]
		for k := range i {
			f := l[i*n+k]
			for j, v := range inv[k*n : k*n+k+1] {
				row[j] -= f * v
			}
		}
		row[i] = 1
		for j := range row {
			row[j] /= l[i*n+i]
		}
	}
	for i, v := range inv {
		d.inverse[i] = float32(v)
	}
	return true
}
