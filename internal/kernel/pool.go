package kernel

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// spinFor is how long an idle worker polls for the next loop before it parks, and a caller for
// the end of the last item before it blocks. The gaps between the products of one decoded token
// are shorter; in longer gaps the core is released.
const spinFor = 30 * time.Microsecond

// Pool is a set of workers that execute loops in parallel. The goroutine that calls Run is one of
// them, so a pool of one thread starts no goroutine. Idle workers park.
//
// A Pool is safe for concurrent use. It executes one Run in parallel at a time: a Run that starts
// during another one, from another goroutine or from inside f, runs serially on its own
// goroutine, as worker 0.
//
// A Pool also has the arithmetic of its products: see [Pool.With]. [NewPool] makes a Pool.
type Pool struct {
	*workers
	compute Compute
	ctx     context.Context // ends every Run; nil for none. See [Pool.WithContext]
}

// Canceled is the value with which a Run panics whose context is done.
type Canceled struct{ Err error }

// WithContext returns a pool of the same workers whose Run starts no item once ctx is done, and
// then panics with a [Canceled]. Matrix products and factorizations are made of Runs.
func (p *Pool) WithContext(ctx context.Context) *Pool {
	return &Pool{workers: p.workers, compute: p.compute, ctx: ctx}
}

// WithoutContext returns a pool of the same workers whose Runs no context ends.
func (p *Pool) WithoutContext() *Pool {
	if p.ctx == nil {
		return p
	}
	return &Pool{workers: p.workers, compute: p.compute}
}

// Check panics with a [Canceled] if the pool's context is done. Items that take seconds call it.
func (p *Pool) Check() {
	if p.ctx != nil {
		if err := p.ctx.Err(); err != nil {
			panic(Canceled{err})
		}
	}
}

// workers holds the goroutines and buffers of a pool. The pools that With returns share it.
type workers struct {
	threads int
	spin    bool // poll before parking; false if there are more workers than cores
	helpers []*helper
	busy    atomic.Bool
	closed  atomic.Bool

	mu    sync.Mutex
	free  []*workspace // workspaces that no product uses
	loops []*loop      // loops without users
}

// helper is one worker goroutine. The caller of Run is a worker but not a helper.
type helper struct {
	loop   atomic.Pointer[loop]
	parked atomic.Bool
	wake   chan struct{}
	_      [64]byte // keeps the flags of two helpers on different cache lines
}

// loop is one call of Run. It is reused when the caller and every helper that received it have
// released it, so that Run allocates nothing.
type loop struct {
	users atomic.Int32 // the caller and the helpers that may still read it
	pool  *Pool        // whose context ends the loop
	n     int
	f     func(worker, i int)
	next  atomic.Int64 // next item to start
	left  atomic.Int64 // unfinished items
	done  chan struct{}
	wait  atomic.Bool // the caller blocks on done

	mu       sync.Mutex
	panicked bool
	panicVal any
}

// NewPool starts a pool of the given number of threads, the caller's included; 0 or less means
// GOMAXPROCS. More threads than cores are allowed but slow.
func NewPool(threads int) *Pool {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	p := &Pool{workers: &workers{threads: threads, spin: threads <= min(runtime.GOMAXPROCS(0), runtime.NumCPU())}}
	for range threads - 1 {
		p.helpers = append(p.helpers, &helper{wake: make(chan struct{}, 1)})
	}
	for i := range p.helpers {
		go p.work(i)
	}
	return p
}

// Threads returns the number of workers, at least 1.
func (p *Pool) Threads() int { return p.threads }

// Close ends the workers. A Run in progress finishes; a Run that starts afterwards runs serially on
// the caller's goroutine.
func (p *Pool) Close() {
	if p.closed.Swap(true) {
		return
	}
	for _, h := range p.helpers {
		h.signal()
	}
}

// Run calls f once for each i in [0, n) and returns when all calls have returned. Up to
// Threads() goroutines make the calls; worker, in [0, Threads()), identifies the goroutine, so
// that f can use one buffer for each. Such buffers must belong to one call of Run: see Pool for
// nested and concurrent calls.
//
// If a call of f panics, the items that have not started are skipped, and Run panics with the
// value of the first panic once every started call has returned. Workers turn memory faults into
// panics, because reading a mapped file that was truncated causes them.
func (p *Pool) Run(n int, f func(worker, i int)) {
	if n <= 0 {
		return
	}
	if n == 1 || p.threads == 1 || p.closed.Load() || !p.busy.CompareAndSwap(false, true) {
		for i := range n {
			p.Check()
			f(0, i)
		}
		return
	}
	p.Check()
	helpers := p.helpers[:min(len(p.helpers), n-1)]
	l := p.newLoop(n, f, 1+len(helpers))
	for _, h := range helpers {
		if late := h.loop.Swap(l); late != nil {
			p.release(late) // the helper never started it, and its items are finished
		}
		h.signal()
	}
	// Deferred, so that it also happens if f ends this goroutine (runtime.Goexit).
	defer p.busy.Store(false)
	l.run(0)
	l.join(p.spin)
	if l.panicked {
		panic(l.panicVal)
	}
	p.release(l)
}

// newLoop returns a loop over n items with the given number of users.
func (p *Pool) newLoop(n int, f func(worker, i int), users int) *loop {
	p.mu.Lock()
	var l *loop
	if last := len(p.loops) - 1; last >= 0 {
		l, p.loops = p.loops[last], p.loops[:last]
	}
	p.mu.Unlock()
	if l == nil {
		l = &loop{done: make(chan struct{}, 1)}
	}
	select {
	case <-l.done: // sent to a caller that had seen the end by polling
	default:
	}
	l.pool, l.n, l.f = p, n, f
	l.wait.Store(false)
	l.next.Store(0)
	l.left.Store(int64(n))
	l.users.Store(int32(users))
	return l
}

// release ends the use of l by one user. A loop in which f panicked or ended its goroutine is not
// reused but left to the garbage collector.
func (p *Pool) release(l *loop) {
	if l.users.Add(-1) != 0 || l.panicked {
		return
	}
	l.pool, l.f = nil, nil
	p.mu.Lock()
	p.loops = append(p.loops, l)
	p.mu.Unlock()
}

// signal wakes the helper if it is parked.
func (h *helper) signal() {
	if h.parked.CompareAndSwap(true, false) {
		h.wake <- struct{}{}
	}
}

// work is the goroutine of helper i, which is worker i+1.
func (p *Pool) work(i int) {
	debug.SetPanicOnFault(true)
	h := p.helpers[i]
	ended := false
	defer func() {
		if !ended { // f called runtime.Goexit: replace the goroutine
			go p.work(i)
		}
	}()
	for {
		l := p.await(h)
		if l == nil {
			ended = true
			return
		}
		l.run(i + 1)
		p.release(l)
	}
}

// await returns the helper's next loop, or nil when the pool is closed.
func (p *Pool) await(h *helper) *loop {
	for {
		if p.spin {
			for start := time.Now(); time.Since(start) < spinFor; {
				for range 64 {
					if h.loop.Load() != nil {
						return h.loop.Swap(nil)
					}
				}
			}
		}
		// Set parked before the last check: whoever stores a loop afterwards sees it set.
		h.parked.Store(true)
		if h.loop.Load() != nil || p.closed.Load() {
			if !h.parked.CompareAndSwap(true, false) {
				<-h.wake // signal has already cleared parked
			}
		} else {
			<-h.wake
		}
		if l := h.loop.Swap(nil); l != nil {
			return l
		}
		if p.closed.Load() {
			return nil
		}
	}
}

// run executes items until none is left.
func (l *loop) run(worker int) {
	for {
		i := int(l.next.Add(1)) - 1
		if i >= l.n {
			return
		}
		l.call(worker, i)
	}
}

// call executes one item and counts it as finished, even if f panics.
func (l *loop) call(worker, i int) {
	finished := false
	defer func() {
		if !finished {
			v := recover() // nil if f called runtime.Goexit
			if v == nil {
				v = "kernel: Pool.Run: f ended its goroutine"
			}
			l.fail(v)
		}
		l.finish(1)
	}()
	l.pool.Check()
	l.f(worker, i)
	finished = true
}

// fail records the first panic and skips the items that have not started.
func (l *loop) fail(v any) {
	l.mu.Lock()
	if !l.panicked {
		l.panicked, l.panicVal = true, v
	}
	l.mu.Unlock()
	if first := int(l.next.Swap(int64(l.n))); first < l.n {
		l.finish(l.n - first)
	}
}

// finish counts items as finished and wakes the caller after the last.
func (l *loop) finish(items int) {
	if l.left.Add(-int64(items)) == 0 && l.wait.Load() {
		select {
		case l.done <- struct{}{}:
		default:
		}
	}
}

// join waits until every item is finished.
func (l *loop) join(spin bool) {
	if spin {
		for start := time.Now(); time.Since(start) < spinFor; {
			for range 64 {
				if l.left.Load() == 0 {
					return
				}
			}
		}
	}
	l.wait.Store(true)
	if l.left.Load() != 0 {
		<-l.done
	}
}
