package gptq

import (
	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// Solve replaces m [rows, columns] by m·H⁻¹, with the damped H. pool may be nil.
func (f *Factor) Solve(pool *compute.Pool, m []float32, rows int) {
	const per = 64
	n := f.n
	type scratch struct {
		mul    kernel.Scratch
		x, sum []float32 // [per, n]
	}
	workers := make([]scratch, pool.Threads())
	pool.Run((rows+per-1)/per, func(id, i int) {
		w := &workers[id]
		first, count := i*per, min(per, rows-i*per)
		w.x, w.sum = grow(w.x, count*n), grow(w.sum, count*n)
		for r := range count {
			for j, c := range f.order {
				w.x[r*n+j] = m[(first+r)*n+int(c)]
			}
		}
		// Solve y·Lᵀ = m from the first column to the last, then x·L = y from the last to the
		// first.
		clear(w.sum)
		for b0 := 0; b0 < n; b0 += solveBlock {
			size := min(solveBlock, n-b0)
			block := f.blocks[b0/solveBlock]
			for r := range count {
				x, sum := w.x[r*n+b0:][:size], w.sum[r*n+b0:][:size]
				for j := range size {
					x[j] = (x[j] - sum[j] - float32(kernel.Dot(x[:j], block[j*size:j*size+j]))) / block[j*size+j]
				}
			}
			if after := b0 + size; after < n {
				w.mul.MulTPart(count, w.x[b0:], n, f.lower, after, n-after, b0, size, w.sum[after:], n, true)
			}
		}
		clear(w.sum)
		for b := len(f.blocks) - 1; b >= 0; b-- {
			b0 := b * solveBlock
			size := min(solveBlock, n-b0)
			for r := range count {
				x, sum := w.x[r*n+b0:][:size], w.sum[r*n+b0:][:size]
				for j := size - 1; j >= 0; j-- {
					row := f.blocks[b][j*size : j*size+j+1]
					x[j] = (x[j] - sum[j]) / row[j]
					kernel.AddScaled(sum[:j], row[:j], x[j])
				}
			}
			w.mul.MulTPart(count, w.x[b0:], n, f.upper, 0, b0, b0, size, w.sum, n, true)
		}
		for r := range count {
			for j, c := range f.order {
				m[(first+r)*n+int(c)] = w.x[r*n+j]
			}
		}
	})
}

// grow returns a slice of length n, which is s if it is long enough.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// FactorWork is the time of [NewFactor] for n columns, in multiplications of a matrix product that
// take as long.
func FactorWork(n int) int64 { return int64(n) * int64(n) * int64(n) * 3 / 2 }

// SolveWork is the time of [Factor.Solve] for a matrix [rows, cols], like FactorWork.
func SolveWork(rows, cols int) int64 { return 6 * int64(rows) * int64(cols) * int64(cols) }

// RefineWork is the time of [Refiner.Refine] for a matrix [rows, cols] and, with a full [Output], of
// [RefineTogether], like FactorWork: the number of products with the Hessian, and with the moment of the
// outputs, that it amounts to, without the work of the grid itself.
func RefineWork(rows, cols int, full bool) int64 {
	weights, n := int64(rows)*int64(cols), int64(cols)
	if full {
		return weights * (14*n + 32*(n+int64(rows)))
	}
	return weights * 42 * n
}
