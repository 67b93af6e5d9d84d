package palettize

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"afmq/internal/kernel"
)

// DefaultDamping is what is added to the diagonal of a Hessian, as a share of its
// mean.
const DefaultDamping = 0.01

// maxDamping is the largest share tried for a Hessian that cannot be factored.
const maxDamping = 1

// solveBlock is how many columns are quantized between two products. It divides
// into kernel's panels.
const solveBlock = 128

// Factor is what error compensation needs to know of the inputs of a module: their
// second moment H = Σ x·xᵀ over the calibration tokens, damped, in the order in which
// columns are quantized, and its Cholesky factor. Modules with the same input share
// one. It is not changed by use.
type Factor struct {
	n       int
	order   []int32        // [n] column at each position; the last is quantized first
	hessian *kernel.Matrix // H [n, n] by position
	lower   *kernel.Matrix // Lᵀ [n, n] by position, H = L·Lᵀ
	blocks  [][]float32    // L[b, b] and H[b, b] of every block of columns, row-major
	hBlocks [][]float32
	diag    []float64 // [n] L's diagonal
	hDiag   []float64 // [n] H's
	// Damping is the share of the mean diagonal that was added.
	Damping float64
}

// NewFactor damps and factors h [n, n], a symmetric matrix, row-major by column, which it
// overwrites. Columns are quantized in the order of falling diagonal (activation order,
// Frantar et al., "GPTQ", 2022). Where the matrix is not positive definite, the damping is
// raised tenfold, up to the mean of the diagonal; after that, and for a matrix that is
// not finite, it is an error.
func NewFactor(pool *kernel.Pool, h []float32, n int, damping float64) (*Factor, error) {
	if len(h) != n*n || n < 1 {
		return nil, fmt.Errorf("a Hessian of %d elements for %d columns", len(h), n)
	}
	mean := 0.0
	for i := range n {
		mean += float64(h[i*n+i]) / float64(n)
	}
	if !(mean > 0) || math.IsInf(mean, 1) {
		return nil, fmt.Errorf("the Hessian's diagonal has mean %v", mean)
	}
	f := &Factor{n: n, order: make([]int32, n)}
	for i := range f.order {
		f.order[i] = int32(i)
	}
	slices.SortStableFunc(f.order, func(a, b int32) int {
		return cmp.Compare(h[int(a)*n+int(a)], h[int(b)*n+int(b)])
	})
	work := make([]float32, n*n)
	for f.Damping = damping; ; f.Damping = max(10*f.Damping, 1e-6) {
		if f.Damping > maxDamping {
			return nil, fmt.Errorf("the Hessian is not positive definite, even with %v of its mean diagonal added", maxDamping)
		}
		add := float32(f.Damping * mean)
		pool.Run(n, func(_, i int) {
			row, src := work[i*n:(i+1)*n], h[int(f.order[i])*n:]
			for j, c := range f.order {
				row[j] = src[c]
			}
			row[i] += add
		})
		f.keepHessian(work)
		if pool.Cholesky(work, n) {
			break
		}
	}
	f.keepLower(h, work)
	return f, nil
}

// keepHessian packs H.
func (f *Factor) keepHessian(h []float32) {
	f.hessian = kernel.PackF32(f.n, f.n, h)
	f.hBlocks, f.hDiag = diagonalBlocks(h, f.n)
}

// keepLower packs Lᵀ from L, with t as room for it.
func (f *Factor) keepLower(t, l []float32) {
	n := f.n
	f.blocks, f.diag = diagonalBlocks(l, n)
	clear(t)
	const tile = 64
	for i0 := 0; i0 < n; i0 += tile {
		for j0 := 0; j0 <= i0; j0 += tile {
			for i := i0; i < min(i0+tile, n); i++ {
				for j := j0; j < min(j0+tile, i+1); j++ {
					t[j*n+i] = l[i*n+j]
				}
			}
		}
	}
	f.lower = kernel.PackF32(n, n, t)
}

// diagonalBlocks copies the blocks on the diagonal and the diagonal itself.
func diagonalBlocks(a []float32, n int) (blocks [][]float32, diag []float64) {
	for b := 0; b < n; b += solveBlock {
		size := min(solveBlock, n-b)
		block := make([]float32, size*size)
		for i := range size {
			copy(block[i*size:(i+1)*size], a[(b+i)*n+b:])
			diag = append(diag, float64(a[(b+i)*n+b+i]))
		}
		blocks = append(blocks, block)
	}
	return blocks, diag
}

// importance returns what an error in each column costs where those in the columns
// quantized after it can make up for it: the squares of L's diagonal, which are the
// 1/U² of the factor of the inverse.
func (f *Factor) importance() []float32 {
	out := make([]float32, f.n)
	largest := slices.Max(f.diag)
	for i, c := range f.order {
		v := f.diag[i] / largest
		out[c] = float32(v * v)
	}
	return out
}
