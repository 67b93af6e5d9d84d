package quantize

// future is the outcome of a function that runs in a goroutine: an error or a panic.
type future struct {
	done     chan struct{}
	err      error
	panicked any
}

// start runs f in a new goroutine.
func start(f func() error) *future {
	t := &future{done: make(chan struct{})}
	go func() {
		defer close(t.done)
		defer func() { t.panicked = recover() }()
		t.err = f()
	}()
	return t
}

// wait returns the error of f. It repeats a panic of f in the caller's goroutine, where the
// program can handle it; in its own it would end the process with exit code 2, which means
// wrong usage.
func (t *future) wait() error {
	<-t.done
	if t.panicked != nil {
		panic(t.panicked)
	}
	return t.err
}
