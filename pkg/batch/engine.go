package batch

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

var (
	// ErrBusy is returned by [Engine.Do] if more sequences would wait than [Options.Queue] allows.
	ErrBusy = errors.New("too many requests are waiting")
	// ErrInternal ends all requests if the engine fails; [Engine.Err] has the cause.
	ErrInternal = errors.New("internal error")
	// ErrClosed is returned by [Engine.Do] after [Engine.Close].
	ErrClosed = errors.New("the engine is closed")
)

// Options are the options of [New]. The zero value works.
type Options struct {
	// Ctx is the number of positions of a sequence at most; 0 for the model's
	// max_position_embeddings.
	Ctx int
	// Parallel is the number of sequences that run at the same time at most; 0 for 8. Others
	// wait. Each has keys and values of at most Ctx positions in memory.
	Parallel int
	// Queue is the number of sequences that may wait; 0 for 256. A call of [Engine.Do] has at most
	// as many.
	Queue int
	// PrefixBytes bounds the memory of the keys and values that are kept of finished sequences
	// for prompts that begin alike; 0 for 256 MiB, negative for none.
	PrefixBytes int64
	// Prefill and Decode are the arithmetics of prompts and of generated tokens.
	Prefill, Decode compute.Arithmetic
	Pool            *compute.Pool // nil for Threads workers of its own
	Threads         int           // where Pool is nil; 0 for all cores
}

// DefaultParallel, DefaultQueue and DefaultPrefixBytes are what zeros in [Options] stand for.
const (
	DefaultParallel    = 8
	DefaultQueue       = 256
	DefaultPrefixBytes = 256 << 20
)

// Engine runs requests on one model. It is safe for concurrent use.
type Engine struct {
	model   *infer.Model
	opts    Options
	limit   int // ids that may be generated are smaller: the head may have more rows than there are tokens
	release func()

	prefill, decode lane
	logits          []float32 // [rows, vocab]
	hidden          []float32 // [rows, hidden]
	pick            func(worker, i int)
	picked          []*want

	active []*sequence // in the order in which they were admitted
	kept   []*prefix   // finished, the most recently used last
	rate   float64     // tokens of prompts per second, lately

	wake    chan struct{} // has an element if there is work to look for
	stopped chan struct{} // closed when the loop has ended

	mu      sync.Mutex // guards what follows
	waiting []*sequence
	closing bool  // no request is admitted
	failed  error // a panic ended the loop
	abort   bool  // running requests are to be ended
	stats   Stats
}

// lane is the runner of one arithmetic.
type lane struct {
	pool   *compute.Pool
	runner *infer.Runner
	batch  []infer.Segment
	of     []*sequence // of each segment
}

// New starts an engine for a model. It is of no use to start another for the same model: one runs
// any number of requests. Errors are of kind [fault.Usage].
func New(m *infer.Model, opts Options) (*Engine, error) {
	switch {
	case opts.Ctx < 0 || opts.Ctx > m.Config.MaxPositions:
		return nil, fault.Usagef("a context of %d tokens; the model's has at most %d", opts.Ctx, m.Config.MaxPositions)
	case opts.Parallel < 0 || opts.Queue < 0:
		return nil, fault.Usagef("%d parallel and %d waiting sequences; expected 0 or more", opts.Parallel, opts.Queue)
	}
	if opts.Ctx == 0 {
		opts.Ctx = m.Config.MaxPositions
	}
	if opts.Parallel == 0 {
		opts.Parallel = DefaultParallel
	}
	if opts.Queue == 0 {
		opts.Queue = DefaultQueue
	}
	if opts.PrefixBytes == 0 {
		opts.PrefixBytes = DefaultPrefixBytes
	}
	pool, release := compute.Workers(opts.Pool, opts.Threads)
	e := &Engine{
		model: m, opts: opts, release: release, limit: m.Config.VocabSize,
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	if m.Tokenizer != nil {
		e.limit = min(e.limit, int(m.Tokenizer.MaxID())+1)
	}
	e.prefill.pool = pool.With(opts.Prefill)
	e.prefill.runner = m.NewRunner(e.prefill.pool)
	if opts.Decode != opts.Prefill {
		e.decode.pool = pool.With(opts.Decode)
		e.decode.runner = m.NewRunner(e.decode.pool)
	}
	e.pick = func(_, i int) { e.picked[i].take(e.limit) }
	go e.run()
	return e, nil
}

// Model returns the engine's model.
func (e *Engine) Model() *infer.Model { return e.model }

// Queue returns the number of sequences that may wait, and that a call of Do may have.
func (e *Engine) Queue() int { return e.opts.Queue }

// Ctx returns the number of positions of a sequence at most.
func (e *Engine) Ctx() int { return e.opts.Ctx }

// Do runs requests and returns their results in the same order. They are admitted together or not
// at all, and the calls of Do take turns. It fails with [ErrBusy], [ErrClosed] and [ErrInternal],
// with an error of kind [fault.Usage] or [fault.Infeasible] for requests that are not valid or too
// many, with one of kind [fault.Input] if the model's logits are not finite, and with ctx.Err(). The
// first error ends all of them.
func (e *Engine) Do(ctx context.Context, requests ...*Request) ([]*Result, error) {
	if n := len(requests); n > e.opts.Queue {
		return nil, fault.Usagef("%d requests at once; at most %d may wait", n, e.opts.Queue)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	job := &job{ctx: ctx, cancel: cancel}
	sequences := make([]*sequence, len(requests))
	for i, r := range requests {
		if err := r.check(e.model, e.opts.Ctx); err != nil {
			return nil, err
		}
		sequences[i] = newSequence(job, r, e.model, e.opts.Ctx)
	}
	if err := e.enqueue(sequences); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, e.poke) // so that the loop sees it
	job.done.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	results := make([]*Result, len(sequences))
	for i, s := range sequences {
		results[i] = s.result
	}
	return results, nil
}

// job is the requests of one call of Do.
type job struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   sync.WaitGroup
	active int // sequences that have been admitted
}

// enqueue appends sequences to those that wait.
func (e *Engine) enqueue(sequences []*sequence) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.failed != nil:
		return ErrInternal
	case e.closing:
		return ErrClosed
	case len(e.waiting)+len(sequences) > e.opts.Queue:
		e.stats.Refused++
		return ErrBusy
	}
	for _, s := range sequences {
		s.job.done.Add(1)
	}
	e.waiting = append(e.waiting, sequences...)
	e.poke()
	return nil
}

// poke makes the loop look for work.
func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Close refuses further requests, waits until those that are admitted have ended, and frees what
// the engine holds. If ctx is done before, it ends them with [ErrClosed].
func (e *Engine) Close(ctx context.Context) {
	e.mu.Lock()
	e.closing = true
	e.mu.Unlock()
	e.poke()
	select {
	case <-e.stopped:
	case <-ctx.Done():
		e.mu.Lock()
		e.abort = true
		e.mu.Unlock()
		e.poke()
		<-e.stopped
	}
}

// Failed is closed when the engine has ended, after Close or because of an internal error, which
// Err returns.
func (e *Engine) Failed() <-chan struct{} { return e.stopped }

// Err returns what ended the engine if it was an internal error, with the stack of the goroutine, or
// nil.
func (e *Engine) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failed
}

// run is the loop that runs all requests.
func (e *Engine) run() {
	defer close(e.stopped)
	defer e.release()
	defer func() {
		if p := recover(); p != nil {
			e.fail(fmt.Errorf("%w: %v\n%s", ErrInternal, p, debug.Stack()))
		}
	}()
	for {
		more := e.admit()
		if len(e.active) > 0 {
			e.step()
			continue
		}
		if !more {
			return
		}
		<-e.wake
	}
}

// fail ends all requests after an internal error.
func (e *Engine) fail(err error) {
	e.mu.Lock()
	e.failed = err
	waiting := e.waiting
	e.waiting = nil
	e.mu.Unlock()
	for _, list := range [][]*sequence{e.active, waiting} {
		for _, s := range list {
			if !s.ended {
				s.job.cancel(ErrInternal)
				s.job.done.Done()
			}
		}
	}
	e.active = nil
}

// admit removes the sequences whose requests have ended and moves waiting ones to the active ones.
// It reports whether the loop goes on.
func (e *Engine) admit() bool {
	now := time.Now()
	e.mu.Lock()
	if e.abort {
		for _, list := range [][]*sequence{e.active, e.waiting} {
			for _, s := range list {
				s.job.cancel(ErrClosed)
			}
		}
	}
	ended := e.dropEnded()
	for len(e.waiting) > 0 && len(e.active) < e.opts.Parallel {
		at := nextTurn(e.waiting)
		s := e.waiting[at]
		e.waiting = slices.Delete(e.waiting, at, at+1)
		s.job.active++
		s.begin(now)
		e.active = append(e.active, s)
	}
	e.stats.Running, e.stats.Waiting = len(e.active), len(e.waiting)
	more := !e.closing || len(e.active)+len(e.waiting) > 0
	e.mu.Unlock()
	for _, s := range ended {
		e.keep(s)
		s.job.done.Done()
	}
	return more
}

// nextTurn returns the first of the sequences whose job has had the fewest, so that one of many
// sequences does not hold up the others.
func nextTurn(waiting []*sequence) int {
	best := 0
	for i, s := range waiting {
		if s.job.active < waiting[best].job.active {
			best = i
		}
	}
	return best
}

// dropEnded removes the sequences of jobs that have ended without them, and returns those that
// were active. The caller holds the lock.
func (e *Engine) dropEnded() (ended []*sequence) {
	left := e.waiting[:0]
	for _, s := range e.waiting {
		if s.job.ctx.Err() == nil {
			left = append(left, s)
			continue
		}
		e.stats.Cancelled++
		s.job.done.Done()
	}
	clear(e.waiting[len(left):])
	e.waiting = left
	e.active = slices.DeleteFunc(e.active, func(s *sequence) bool {
		if s.job.ctx.Err() == nil {
			return false
		}
		e.stats.Cancelled++
		ended = append(ended, s)
		return true
	})
	return ended
}

// Accepts reports whether the engine takes requests: it is not closed and has not failed.
func (e *Engine) Accepts() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.closing && e.failed == nil
}
