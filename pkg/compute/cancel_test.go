package compute_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"afmq/pkg/compute"
)

// A pool with a context starts no item after the context has ended, and Recover returns the
// context's error; the workers go on with other work.
func TestWithContext(t *testing.T) {
	for _, threads := range []int{1, 2, 5} {
		pool := compute.NewPool(threads)
		ctx, cancel := context.WithCancel(t.Context())
		var started atomic.Int64
		err := func() (err error) {
			defer compute.Recover(&err)
			pool.WithContext(ctx).With(compute.F32).Run(1000, func(_, i int) {
				if started.Add(1) == 10 {
					cancel()
				}
			})
			return nil
		}()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%d threads: error %v", threads, err)
		}
		if n := started.Load(); n < 10 || n > 10+int64(threads) {
			t.Errorf("%d threads: %d items were started", threads, n)
		}
		var all atomic.Int64
		pool.Run(100, func(_, _ int) { all.Add(1) })
		if all.Load() != 100 {
			t.Errorf("%d threads: %d of 100 items ran afterwards", threads, all.Load())
		}
		pool.Close()
	}
}

// Products on a pool with a context end with it, and other panics pass Recover.
func TestRecover(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pool := compute.NewPool(2)
	defer pool.Close()
	const n = 64
	v := make([]float32, n*n)
	w := pool.PackF32(n, n, v)
	err := func() (err error) {
		defer compute.Recover(&err)
		pool.WithContext(ctx).MulT(make([]float32, n*n), v, n, w)
		return nil
	}()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a product returned %v", err)
	}
	defer func() {
		if recover() != "other" {
			t.Error("another panic did not propagate")
		}
	}()
	func() (err error) {
		defer compute.Recover(&err)
		panic("other")
	}()
}
