package kernel

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// spinFor is how long an idle worker looks for the next job before it parks, and
// a caller for the last item before it blocks. The gaps between the products of
// one decoded token are shorter than this; longer ones give the core away.
const spinFor = 30 * time.Microsecond

// Pool is a set of workers that share loops. The goroutine that calls Run is one
// of them, so a pool of one thread starts none. Idle workers park.
//
// A Pool is safe for use by several goroutines. It serves one Run at a time: a
// Run that starts while another is under way, be it from another goroutine or
// from inside f, runs on its own goroutine alone, as worker 0.
//
// A Pool also says in which arithmetic its products run: see [Pool.With].
type Pool struct {
	*workers
	compute Compute
}

// workers is the workers, which the pools that With makes of one another share.
type workers struct {
	threads int
	spin    bool // false where a spinning worker would keep another from its core
	helpers []*helper
	busy    atomic.Bool
	closed  atomic.Bool

	mu    sync.Mutex
	free  []*workspace // buffers of products not under way
	loops []*loop      // jobs that nobody looks at any more
}

// helper is one worker goroutine, apart from the callers.
type helper struct {
	loop   atomic.Pointer[loop]
	parked atomic.Bool
	wake   chan struct{}
	_      [64]byte // keeps the flags of two workers off one cache line
}

// job is one call of Run. It is used again once the caller and every helper that was
// given it have let go of it, so that Run allocates nothing.
type loop struct {
	users atomic.Int32 // the caller and the helpers that may still look at it
	n     int
	f     func(worker, i int)
	next  atomic.Int64 // first item that nobody has taken
	left  atomic.Int64 // items that are not finished
	done  chan struct{}
	wait  atomic.Bool // the caller sleeps on done

	mu       sync.Mutex
	panicked bool
	panicVal any
}

// NewPool starts a pool of the given number of threads, the caller's included;
// 0 or less means GOMAXPROCS. More threads than cores are legal, and slow.
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

// Close ends the workers. A Run that is under way finishes; a Run that starts
// afterwards works on the caller's goroutine alone.
func (p *Pool) Close() {
	if p.closed.Swap(true) {
		return
	}
	for _, h := range p.helpers {
		h.signal()
	}
}

// Run calls f once for each i in [0, n) and returns when all calls have
// returned. Calls run at the same time on up to Threads() goroutines; worker, in
// [0, Threads()), says which, so that f can keep a buffer for each. Such buffers
// must belong to one call of Run: see Pool for nested and concurrent ones.
//
// If a call of f panics, the remaining items are skipped and Run panics with the
// value of the first panic once every call under way has returned. Workers turn
// memory faults into panics, as a mapped file that shrinks causes them.
func (p *Pool) Run(n int, f func(worker, i int)) {
	if n <= 0 {
		return
	}
	if n == 1 || p.threads == 1 || p.closed.Load() || !p.busy.CompareAndSwap(false, true) {
		for i := range n {
			f(0, i)
		}
		return
	}
	helpers := p.helpers[:min(len(p.helpers), n-1)]
	l := p.newLoop(n, f, 1+len(helpers))
	for _, h := range helpers {
		if late := h.loop.Swap(l); late != nil {
			p.release(late) // it never began, and its items are done
		}
		h.signal()
	}
	// The pool is free again even when f ends this goroutine (runtime.Goexit).
	defer p.busy.Store(false)
	l.run(0)
	l.join(p.spin)
	if l.panicked {
		panic(l.panicVal)
	}
	p.release(l)
}

// newLoop returns a job for so many users.
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
	case <-l.done: // sent to a caller that saw the end by itself
	default:
	}
	l.n, l.f = n, f
	l.wait.Store(false)
	l.next.Store(0)
	l.left.Store(int64(n))
	l.users.Store(int32(users))
	return l
}

// release says that one of the job's users is done with it. A job of which a user
// panicked or ended its goroutine is never released by all, and left to the collector.
func (p *Pool) release(l *loop) {
	if l.users.Add(-1) != 0 || l.panicked {
		return
	}
	l.f = nil
	p.mu.Lock()
	p.loops = append(p.loops, l)
	p.mu.Unlock()
}

// kick wakes a helper that is parked.
func (h *helper) signal() {
	if h.parked.CompareAndSwap(true, false) {
		h.wake <- struct{}{}
	}
}

// work is the life of helper i, worker i+1.
func (p *Pool) work(i int) {
	debug.SetPanicOnFault(true)
	h := p.helpers[i]
	ended := false
	defer func() {
		if !ended { // f called runtime.Goexit: the pool keeps its size
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

// await returns the helper's next job, or nil when the pool is closed.
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
		// Announce the nap first and look again after: whoever comes later sees it.
		h.parked.Store(true)
		if h.loop.Load() != nil || p.closed.Load() {
			if !h.parked.CompareAndSwap(true, false) {
				<-h.wake // someone has kicked already
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

// run takes items until none is left.
func (l *loop) run(worker int) {
	for {
		i := int(l.next.Add(1)) - 1
		if i >= l.n {
			return
		}
		l.call(worker, i)
	}
}

// call runs one item and accounts for it however it ends.
func (l *loop) call(worker, i int) {
	finished := false
	defer func() {
		if !finished {
			v := recover() // nil if f called runtime.Goexit
			if v == nil {
				v = "kernel: Pool: f ended its goroutine"
			}
			l.fail(v)
		}
		l.finish(1)
	}()
	l.f(worker, i)
	finished = true
}

// fail keeps the first panic and takes the items that nobody has started.
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

func (l *loop) finish(items int) {
	if l.left.Add(-int64(items)) == 0 && l.wait.Load() {
		select {
		case l.done <- struct{}{}:
		default:
		}
	}
}

// join returns when every item is finished.
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
