package gptq

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// DefaultDamping is the fraction of itself that is added to each diagonal element of a
// Hessian. On a model of 11 M parameters, 0.03 to 0.3 give about the same result.
const DefaultDamping = 0.1

// scarceInputs times the ratio of columns to tokens is added to DefaultDamping by Damping. On a model of
// 11 M parameters, 1 and 4 give about the same result, and at 1,024 tokens 0.6 of the divergence that 0
// gives.
const scarceInputs = 2

// Damping returns the damping for the second moment of an input of so many columns over so many tokens:
// the fewer tokens, the more of its correlations is chance, and an error that seems to cost nothing does.
func Damping(columns, tokens int) float64 {
	return DefaultDamping + scarceInputs*float64(columns)/float64(max(tokens, 1))
}

// floorShare times the damping is the fraction of the diagonal's mean that is also added.
const floorShare = 0.01

// maxDamping is the largest damping tried for a Hessian that is not positive definite.
const maxDamping = 10

// solveBlock is the number of columns that are quantized between two matrix products, a
// multiple of the kernel's panel.
const solveBlock = 128

// Factor holds the statistics of a module's inputs that error compensation needs:
// the damped second moment H = Σ x·xᵀ over the calibration tokens, which is the Hessian of
// the squared output error up to a factor of 2, and its Cholesky factor. Columns are in the
// order in which they are quantized. Modules with the same input share a Factor; it
// is read-only and safe for concurrent use.
type Factor struct {
	n       int
	run     int            // columns that stay together
	order   []int32        // [n] column at each position; the last position is quantized first
	hessian *kernel.Matrix // H [n, n] by position
	lower   *kernel.Matrix // L [n, n] by position, H = L·Lᵀ
	upper   *kernel.Matrix // Lᵀ
	blocks  [][]float32    // diagonal blocks of L and H, row-major
	hBlocks [][]float32
	diag    []float64 // [n] diagonal of L
	hDiag   []float64 // [n] diagonal of H
	// Inverses of both.
	diagInverse, hDiagInverse []float32
	// Damping is the fraction of itself that was added to the diagonal, together with 0.01
	// times that fraction of the diagonal's mean.
	Damping float64
}

// NewFactor damps and factors h, a symmetric matrix [n, n], which it overwrites. pool
// may be nil; damping is usually that of [Damping]. Columns are quantized in the order of
// descending diagonal (activation order, Frantar et al., "GPTQ", 2022). A run above 1 keeps runs of
// that many columns together, for a grid on which consecutive columns share parameters: runs are
// in the order of their mean diagonal, and columns within a run keep theirs. If the matrix is not
// positive definite, the damping is multiplied by ten, up to 10 times the diagonal. A matrix
// that is still not positive definite, has a diagonal of mean zero or is not finite is an
// error.
func NewFactor(pool *compute.Pool, h []float32, n int, damping float64, run int) (*Factor, error) {
	if len(h) != n*n || n < 1 || run < 1 {
		return nil, fmt.Errorf("a Hessian of %d elements for %d columns in runs of %d", len(h), n, run)
	}
	mean := 0.0
	for i := range n {
		mean += float64(h[i*n+i]) / float64(n)
	}
	if !(mean > 0) || math.IsInf(mean, 1) {
		return nil, fmt.Errorf("the Hessian's diagonal has mean %v", mean)
	}
	f := &Factor{n: n, run: run, order: activationOrder(h, n, run)}
	work := make([]float32, n*n)
	for f.Damping = damping; ; f.Damping = max(10*f.Damping, 1e-6) {
		if f.Damping > maxDamping {
			return nil, fmt.Errorf("the Hessian is not positive definite, even with %v times its diagonal added", maxDamping)
		}
		// The multiple reduces all correlations by the same fraction, independent of the
		// scale of an input; the constant gives an input that is always zero a diagonal.
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
	f.keepLower(pool, work)
	return f, nil
}

// activationOrder returns the columns by ascending diagonal of h, runs of columns by ascending mean.
func activationOrder(h []float32, n, run int) []int32 {
	mean := make([]float64, (n+run-1)/run)
	for i := range n {
		mean[i/run] += float64(h[i*n+i]) / float64(min(run, n-i/run*run))
	}
	order := make([]int32, n)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		return cmp.Compare(mean[int(a)/run], mean[int(b)/run])
	})
	return order
}

// keepHessian stores H, packed.
func (f *Factor) keepHessian(pool *compute.Pool, h []float32) {
	f.hessian = (*kernel.Matrix)(pool.PackF32(f.n, f.n, h))
	f.hBlocks, f.hDiag = diagonalBlocks(h, f.n)
}

// keepLower stores L and Lᵀ, packed. The upper triangle of l is overwritten.
func (f *Factor) keepLower(pool *compute.Pool, l []float32) {
	n := f.n
	f.blocks, f.diag = diagonalBlocks(l, n)
	f.diagInverse, f.hDiagInverse = inverses(f.diag), inverses(f.hDiag)
	for i := range n {
		clear(l[i*n+i+1 : (i+1)*n])
	}
	// A few rows of Lᵀ at a time: a whole copy of a matrix of 14,336 rows takes 0.8 GB.
	upper, err := compute.PackF32Rows(n, n, func(dst []float32, r0, r1 int) error {
		for i := range n {
			for j, v := range l[i*n+r0 : i*n+r1] {
				dst[j*n+i] = v
			}
		}
		return nil
	})
	if err != nil {
		panic(err) // the function returns none
	}
	f.upper = (*kernel.Matrix)(upper)
	f.lower = (*kernel.Matrix)(pool.PackF32(n, n, l))
}

// inverses returns 1/v, element by element.
func inverses(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(1 / x)
	}
	return out
}

// diagonalBlocks returns copies of the blocks on the diagonal and of the diagonal.
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

// Importance returns the cost of a squared error in each column when the columns quantized
// after it compensate it: the squared diagonal of L, relative to its largest element. In
// terms of the factor U of the inverse, as in the GPTQ paper, it is 1/U².
func (f *Factor) Importance() []float32 {
	out := make([]float32, f.n)
	largest := slices.Max(f.diag)
	for i, c := range f.order {
		v := f.diag[i] / largest
		out[c] = float32(v * v)
	}
	return out
}

// Columns returns the number of columns.
func (f *Factor) Columns() int { return f.n }

// Run returns the number of columns that the order keeps together, 1 for none.
func (f *Factor) Run() int { return f.run }

// Order returns the column of the matrix at each position; the last position is quantized first.
// It must not be changed.
func (f *Factor) Order() []int32 { return f.order }
