// Command afmq compresses language models the way Apple compresses its
// on-device foundation model, for anyone's checkpoint. `afmq help` lists what
// the commands, `afmq help exit-codes` the exit codes.
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

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes the command line and returns the exit code. It recovers panics: Go's own
// exit code for one, 2, would be taken for a usage error.
func run(args []string, stdout, stderr io.Writer) (code int) {
	ignoreWriteSignals()
	out := &printed{to: stdout}
	a := &app{stdout: out, stderr: stderr, maybeJSON: asksForJSON(args)}
	ctx, stop := a.interruptible()
	defer stop()
	defer func() {
		if p := recover(); p != nil {
			code = a.fail(fmt.Errorf("internal error: %v", p))
			fmt.Fprintf(stderr, "%s\n", debug.Stack())
		}
	}()
	root := newRootCommand(a)
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		forCompletion(root)
	}
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	var err error
	a.command, err = root.ExecuteContextC(ctx)
	a.close()
	if err == nil {
		err = outputError(out.err) // help does not check its own writes
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

// printed is standard output that remembers its first write error.
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
// signal as the cause. The second signal ends the process at once. A SIGINT that a command
// has taken over (onInterrupt) is not counted.
func (a *app) interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2) // a SIGINT that is being handled does not displace a SIGTERM
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for s := range signals {
			if take := a.interrupt.Load(); take != nil && s == syscall.SIGINT {
				(*take)()
				continue
			}
			signal.Stop(signals)
			cancel(caught{s.(syscall.Signal)})
			return
		}
	}()
	return ctx, func() { signal.Stop(signals); close(signals); cancel(nil) }
}

// onInterrupt makes SIGINT call take, which must not block, instead of ending the run, until
// restore is called.
func (a *app) onInterrupt(take func()) (restore func()) {
	before := a.interrupt.Swap(&take)
	return func() { a.interrupt.Store(before) }
}

// asksForJSON reports whether the arguments ask for JSON. It reads the raw arguments
// because an error in parsing them is reported as JSON too.
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
