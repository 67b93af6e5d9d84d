package kernel

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// within fails the test if f does not return within a generous time, because defects of the pool show
// as deadlocks.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		buf := make([]byte, 1<<16)
		t.Fatalf("%s hangs\n%s", what, buf[:runtime.Stack(buf, true)])
	}
}

func TestPoolCallsEachOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 16, 0} {
		p := NewPool(threads)
		if threads > 0 && p.Threads() != threads || p.Threads() < 1 {
			t.Errorf("NewPool(%d) has %d threads", threads, p.Threads())
		}
		within(t, "Run", func() {
			for n := range 200 {
				calls := make([]atomic.Int32, n)
				p.Run(n, func(worker, i int) {
					if worker < 0 || worker >= p.Threads() {
						t.Errorf("worker %d of %d", worker, p.Threads())
					}
					calls[i].Add(1)
				})
				for i := range calls {
					if c := calls[i].Load(); c != 1 {
						t.Fatalf("%d threads: item %d of %d was called %d times", threads, i, n, c)
					}
				}
			}
		})
		p.Close()
	}
}

// TestPoolWorkerIsExclusive checks that the calls of one worker never overlap, which the buffers of a
// worker require.
func TestPoolWorkerIsExclusive(t *testing.T) {
	p := NewPool(4)
	defer p.Close()
	inside := make([]atomic.Int32, 4)
	within(t, "Run", func() {
		for range 50 {
			p.Run(64, func(worker, _ int) {
				if inside[worker].Add(1) != 1 {
					t.Error("two calls of one worker at once")
				}
				runtime.Gosched()
				inside[worker].Add(-1)
			})
		}
	})
}

// TestPoolShares checks that two workers are inside f at the same time.
func TestPoolShares(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	within(t, "a barrier of two items", func() {
		for range 20 {
			var wg sync.WaitGroup
			wg.Add(2)
			p.Run(2, func(_, _ int) {
				wg.Done()
				wg.Wait()
			})
			time.Sleep(100 * time.Microsecond) // long enough for the worker to park
		}
	})
}

func TestPoolNested(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	var sum atomic.Int64
	within(t, "nested Run", func() {
		p.Run(10, func(_, i int) {
			p.Run(10, func(_, j int) {
				p.Run(2, func(_, k int) { sum.Add(int64(100*i + 10*j + k)) })
			})
		})
	})
	if want := int64(2*(100*45*10+10*45*10) + 100); sum.Load() != want {
		t.Errorf("sum %d, want %d", sum.Load(), want)
	}
}

func TestPoolConcurrent(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	r := newRand(30)
	const m, n, k = 9, 100, 80
	x, w := normals(r, m*k), PackF32(n, k, normals(r, n*k))
	want := product(1, x, m, w)
	within(t, "concurrent MulT", func() {
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				for range 50 {
					y := make([]float32, m*n)
					p.MulT(y, x, m, w)
					sameBits(t, "concurrent MulT", y, want)
				}
			})
		}
		wg.Wait()
	})
}

func TestPoolPanics(t *testing.T) {
	sentinel := errors.New("broken")
	for _, threads := range []int{1, 2, 5} {
		p := NewPool(threads)
		within(t, "a panic", func() {
			for _, bad := range []int{0, 17, 99} {
				func() {
					defer func() {
						if v := recover(); v != sentinel {
							t.Errorf("%d threads: recovered %v, want the panic of item %d", threads, v, bad)
						}
					}()
					p.Run(100, func(_, i int) {
						if i == bad {
							panic(sentinel)
						}
						runtime.Gosched()
					})
					t.Error("Run returned after a panic")
				}()
			}
			var calls atomic.Int32 // the pool works on
			p.Run(50, func(_, _ int) { calls.Add(1) })
			if calls.Load() != 50 {
				t.Errorf("%d calls after a panic, want 50", calls.Load())
			}
		})
		p.Close()
	}
}

// TestPoolGoexit checks that Run survives an f that ends its goroutine, as testing.T.FailNow does.
func TestPoolGoexit(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	within(t, "Goexit", func() {
		for range 20 {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				var both sync.WaitGroup
				both.Add(2)
				p.Run(2, func(worker, _ int) {
					both.Done()
					both.Wait()
					if worker == 1 {
						runtime.Goexit()
					}
				})
			}()
		}
		var both sync.WaitGroup // two workers are left
		both.Add(2)
		p.Run(2, func(_, _ int) {
			both.Done()
			both.Wait()
		})
	})
}

func TestPoolClose(t *testing.T) {
	before := runtime.NumGoroutine()
	var pools []*Pool
	for range 10 {
		p := NewPool(4)
		p.Run(8, func(_, _ int) {})
		pools = append(pools, p)
	}
	for _, p := range pools {
		p.Close()
		p.Close()
		n := 0
		p.Run(5, func(worker, _ int) { n += 1 + worker })
		if n != 5 {
			t.Errorf("Run after Close: %d calls, want 5 by worker 0", n)
		}
	}
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines remain of %d before", runtime.NumGoroutine(), before)
}

// TestPoolOneProcessor uses more threads than processors.
func TestPoolOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := NewPool(6)
	defer p.Close()
	within(t, "six threads on one processor", func() {
		var n atomic.Int64
		for range 500 {
			p.Run(12, func(_, _ int) { n.Add(1) })
		}
		if n.Load() != 6000 {
			t.Errorf("%d calls, want 6000", n.Load())
		}
	})
}

func BenchmarkForkJoin(b *testing.B) {
	p := NewPool(2)
	defer p.Close()
	for b.Loop() {
		p.Run(2, func(_, _ int) {})
	}
}
