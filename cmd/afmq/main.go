// Command afmq compresses language models the way Apple compresses its
// on-device foundation model, for anyone's checkpoint. `afmq help` lists what
// it can do, `afmq help exit-codes` what its exit codes mean.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program: it executes the command line and returns the exit
// code. It recovers a panic, whose exit code would otherwise mean wrong usage.
func run(args []string, stdout, stderr io.Writer) (code int) {
	// A file that may not grow (ulimit -f) is an error of its write, not the end.
	// Likewise a stream that nobody reads any more (| head): the result that the run has
	// made is not lost with it, nor its exit code with the line for people.
	signal.Ignore(syscall.SIGXFSZ, syscall.SIGPIPE)
	ctx, stop := interruptible()
	defer stop()
	out := &printed{to: stdout}
	a := &app{stdout: out, stderr: stderr, maybeJSON: asksForJSON(args)}
	defer func() {
		if p := recover(); p != nil {
			code = a.fail(fmt.Errorf("internal error: %v", p))
			fmt.Fprintf(stderr, "%s\n", debug.Stack())
		}
	}()
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	a.close()
	if err == nil {
		err = outputError(out.err) // of what did not look: help
	}
	if err == nil {
		return 0
	}
	var sig caught
	if errors.As(context.Cause(ctx), &sig) {
		return a.interrupted(sig)
	}
	return a.fail(err)
}

// printed is standard output with the first error that writing to it met.
type printed struct {
	to  io.Writer
	err error
}

func (p *printed) Write(data []byte) (int, error) {
	n, err := p.to.Write(data)
	if p.err == nil {
		p.err = err
	}
	return n, err
}

// caught is the signal that ended a run.
type caught struct{ syscall.Signal }

func (c caught) Error() string { return c.Signal.String() }

// interruptible returns a context that SIGINT and SIGTERM cancel, with the
// signal as the cause. The second signal ends the process at once.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		if s, ok := <-signals; ok {
			signal.Stop(signals)
			cancel(caught{s.(syscall.Signal)})
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// asksForJSON reports whether the arguments ask for JSON. It looks at the raw
// arguments because an error in them is reported as JSON too.
func asksForJSON(args []string) bool {
	wants := false
	for _, arg := range args {
		if arg == "--" {
			break
		}
		if arg == "--json" {
			wants = true
		} else if value, ok := strings.CutPrefix(arg, "--json="); ok {
			on, err := strconv.ParseBool(value)
			wants = on || err != nil
		}
	}
	return wants
}
