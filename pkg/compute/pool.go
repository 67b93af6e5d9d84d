package compute

import (
	"context"
	"sync"

	"afmq/internal/kernel"
)

// Pool is a set of worker threads and the arithmetic of the matrix products that run on
// them. The nil pool is one of all cores in [F32], which all users of nil share.
//
// A Pool is safe for use by several goroutines and serves one Run at a time: a Run that
// starts while another is under way, from another goroutine or from inside f, runs on its
// own goroutine alone.
type Pool kernel.Pool

// NewPool starts a pool of the given number of threads, the caller's included; 0 or less
// means all cores (GOMAXPROCS).
func NewPool(threads int) *Pool { return (*Pool)(kernel.NewPool(threads)) }

var shared = sync.OnceValue(func() *kernel.Pool { return kernel.NewPool(0) })

func (p *Pool) kernel() *kernel.Pool {
	if p == nil {
		return shared()
	}
	return (*kernel.Pool)(p)
}

// Workers returns the pool of an option struct with the fields Pool and Threads: p, without its
// context, unless it is nil, else a pool of this many threads, 0 for all cores. The function that
// it returns ends the threads that Workers started.
func Workers(p *Pool, threads int) (*Pool, func()) {
	if p != nil || threads <= 0 {
		return p.WithoutContext(), func() {}
	}
	own := NewPool(threads)
	return own, own.Close
}

// Close ends the workers; a Run that starts afterwards works on the caller's goroutine
// alone. Closing the nil pool does nothing.
func (p *Pool) Close() {
	if p != nil {
		p.kernel().Close()
	}
}

// Threads returns the number of workers, at least 1.
func (p *Pool) Threads() int { return p.kernel().Threads() }

// Arithmetic returns the arithmetic of the pool's matrix products.
func (p *Pool) Arithmetic() Arithmetic { return Arithmetic(p.kernel().Compute()) }

// With returns a pool of the same workers whose products [Pool.MulT] and [Pool.Mul] run in
// the given arithmetic ([I16] in MulT only). Closing one closes both.
func (p *Pool) With(a Arithmetic) *Pool { return (*Pool)(p.kernel().With(kernel.Compute(a))) }

// WithContext returns a pool of the same workers that stops when ctx is done: a Run, or a product
// or factorization, that is under way or starts then panics as soon as its workers have finished
// the items that they have begun, tens of milliseconds for the matrices of a small model. The
// caller defers [Recover], which turns the panic into ctx.Err(). Nothing that was computed after
// ctx ended is returned, so no result has to be checked. Closing one of the pools closes both.
// A function of this module that has a context among its parameters ends with that one, by an
// error, and ignores that of the pool.
func (p *Pool) WithContext(ctx context.Context) *Pool {
	return (*Pool)(p.kernel().WithContext(ctx))
}

// WithoutContext returns a pool of the same workers that no context stops.
func (p *Pool) WithoutContext() *Pool {
	if p == nil {
		return nil
	}
	return (*Pool)(p.kernel().WithoutContext())
}

// Check panics as Run does if the pool has a context that is done. A function passed to Run that
// takes seconds calls it between its steps.
func (p *Pool) Check() { p.kernel().Check() }

// Recover sets err to the error of the context if a pool of [Pool.WithContext] ended a
// computation. Other panics propagate. A function that computes on such a pool defers it.
func Recover(err *error) {
	switch v := recover().(type) {
	case nil:
	case kernel.Canceled:
		*err = v.Err
	default:
		panic(v)
	}
}

// Run calls f once for each i in [0, n) and returns when all calls have returned. Calls run
// at the same time on up to Threads goroutines; worker, in [0, Threads), says which, so
// that f can keep a buffer for each. If a call panics, the remaining items are skipped and
// Run panics with the value of the first panic.
func (p *Pool) Run(n int, f func(worker, i int)) { p.kernel().Run(n, f) }

// MulT computes Y = X·Wᵀ, the product of a forward pass. X is [m, Cols], Y is [m, Rows],
// both row-major; Y must not overlap X. Row i of Y has the same bits whatever m, the number
// of threads and the rows around it.
func (p *Pool) MulT(y, x []float32, m int, w *Matrix) { p.kernel().MulT(y, x, m, w.kernel()) }

// MulTAdd computes Y += X·Wᵀ.
func (p *Pool) MulTAdd(y, x []float32, m int, w *Matrix) { p.kernel().MulTAdd(y, x, m, w.kernel()) }

// Mul computes Y = X·W, the product of a backward pass. X is [m, Rows], Y is [m, Cols], both
// row-major; Y must not overlap X.
func (p *Pool) Mul(y, x []float32, m int, w *Matrix) { p.kernel().Mul(y, x, m, w.kernel()) }

// MulAdd computes Y += X·W.
func (p *Pool) MulAdd(y, x []float32, m int, w *Matrix) { p.kernel().MulAdd(y, x, m, w.kernel()) }

// AddGram adds XᵀX to the upper triangle of h [d, d]; X is [n, d], both row-major. The lower
// triangle is left in an unspecified state.
func (p *Pool) AddGram(h, x []float32, n, d int) { p.kernel().AddGram(h, x, n, d) }

// AddCross adds AᵀB to h [da, db]; A is [n, da] and B [n, db], all row-major.
func (p *Pool) AddCross(h, a, b []float32, n, da, db int) { p.kernel().AddCross(h, a, b, n, da, db) }

// Cholesky replaces the lower triangle of the symmetric matrix a [n, n], row-major, by the
// factor L of a = L·Lᵀ (Golub and Van Loan, "Matrix Computations", 4.2.9). It returns
// false, with a in an unspecified state, if a is not positive definite in float32.
func (p *Pool) Cholesky(a []float32, n int) bool { return p.kernel().Cholesky(a, n) }
