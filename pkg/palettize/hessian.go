package palettize

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// DefaultDamping is the share of itself that is added to each element of a Hessian's
// diagonal. On a model of 11 M parameters, 0.03 to 0.3 do about as well.
const DefaultDamping = 0.1

// floorShare is the share of the damping that is taken of the diagonal's mean besides.
const floorShare = 0.01

// maxDamping is the largest share tried for a Hessian that cannot be factored.
const maxDamping = 10

// solveBlock is how many columns are quantized between two products. It divides
// into kernel's panels.
const solveBlock = 128

// HessianFactor is what error compensation needs to know of the inputs of a module: their
// second moment H = Σ x·xᵀ over the calibration tokens, damped, in the order in which
// columns are quantized, and its Cholesky factor. Modules with the same input share
// one. It is not changed by use.
type HessianFactor struct {
	n       int
	order   []int32        // [n] column at each position; the last is quantized first
	hessian *kernel.Matrix // H [n, n] by position
	lower   *kernel.Matrix // L [n, n] by position, H = L·Lᵀ
	upper   *kernel.Matrix // Lᵀ
	blocks  [][]float32    // L[b, b] and H[b, b] of every block of columns, row-major
	hBlocks [][]float32
	diag    []float64 // [n] L's diagonal
	hDiag   []float64 // [n] H's
	// Their inverses, for the inner loops.
	diagInverse, hDiagInverse []float32
	// Damping is the share of the diagonal that was added to it; 0.01 of that share of its
	// mean was added too.
	Damping float64
}

// NewHessianFactor damps and factors h [n, n], a symmetric matrix, row-major by column, which it
// overwrites. Columns are quantized in the order of falling diagonal (activation order,
// Frantar et al., "GPTQ", 2022). Where the matrix is not positive definite, the damping is
// raised tenfold, up to ten times the diagonal; after that, and for a matrix that is not
// finite, it is an error.
func NewHessianFactor(pool *compute.Pool, h []float32, n int, damping float64) (*HessianFactor, error) {
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
	f := &HessianFactor{n: n, order: make([]int32, n)}
	for i := range f.order {
		f.order[i] = int32(i)
	}
	slices.SortStableFunc(f.order, func(a, b int32) int {
		return cmp.Compare(h[int(a)*n+int(a)], h[int(b)*n+int(b)])
	})
	work := make([]float32, n*n)
	for f.Damping = damping; ; f.Damping = max(10*f.Damping, 1e-6) {
		if f.Damping > maxDamping {
			return nil, fmt.Errorf("the Hessian is not positive definite, even with %v times its diagonal added", maxDamping)
		}
		// Correlations shrink by the same share whatever the scale of an input, and an
		// input that was never seen gets some diagonal at all.
		times, add := float32(1+f.Damping), float32(f.Damping*mean*floorShare)
		pool.Run(n, func(_, i int) {
			row, src := work[i*n:(i+1)*n], h[int(f.order[i])*n:]
			for j, c := range f.order {
				row[j] = src[c]
			}
			row[i] = row[i]*times + add
		})
		f.keepHessian(pool, work)
		if pool.Cholesky(work, n) {
			break
		}
	}
	f.keepLower(pool, h, work)
	return f, nil
}

// keepHessian packs H.
func (f *HessianFactor) keepHessian(pool *compute.Pool, h []float32) {
	f.hessian = (*kernel.Matrix)(pool.PackF32(f.n, f.n, h))
	f.hBlocks, f.hDiag = diagonalBlocks(h, f.n)
}

// keepLower packs L and Lᵀ, with t as room.
func (f *HessianFactor) keepLower(pool *compute.Pool, t, l []float32) {
	n := f.n
	f.blocks, f.diag = diagonalBlocks(l, n)
	const tile = 64
	pool.Run((n+tile-1)/tile, func(_, i int) { // rows of Lᵀ
		j0 := i * tile
		j1 := min(j0+tile, n)
		for j := j0; j < j1; j++ {
			clear(t[j*n : j*n+j])
		}
		for i0 := j0; i0 < n; i0 += tile {
			for i := i0; i < min(i0+tile, n); i++ {
				for j := j0; j < min(j1, i+1); j++ {
					t[j*n+i] = l[i*n+j]
				}
			}
		}
	})
	f.diagInverse, f.hDiagInverse = inverses(f.diag), inverses(f.hDiag)
	f.upper = (*kernel.Matrix)(pool.PackF32(n, n, t))
	for i := range n {
		clear(l[i*n+i+1 : (i+1)*n])
	}
	f.lower = (*kernel.Matrix)(pool.PackF32(n, n, l))
}

func inverses(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(1 / x)
	}
	return out
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
func (f *HessianFactor) importance() []float32 {
	out := make([]float32, f.n)
	largest := slices.Max(f.diag)
	for i, c := range f.order {
		v := f.diag[i] / largest
		out[c] = float32(v * v)
	}
	return out
}
