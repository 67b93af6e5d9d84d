//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// ignoreWriteSignals makes a file size limit (ulimit -f) and a closed pipe (| head) errors of
// the write instead of the death of the process, which would lose the exit code and the
// message.
func ignoreWriteSignals() { signal.Ignore(syscall.SIGXFSZ, syscall.SIGPIPE) }
