package quantize

// future is a goroutine that ends in an error or a panic.
type future struct {
	done     chan struct{}
	err      error
	panicked any
}

// start runs f in a goroutine of its own.
func start(f func() error) *future {
	t := &future{done: make(chan struct{})}
	go func() {
		defer close(t.done)
		defer func() { t.panicked = recover() }()
		t.err = f()
	}()
	return t
}

// wait returns what f returned. A panic in f is raised again here: in its own
// goroutine it would end the process with the exit code for wrong usage.
func (t *future) wait() error {
	<-t.done
	if t.panicked != nil {
		panic(t.panicked)
	}
	return t.err
}
