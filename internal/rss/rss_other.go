//go:build !linux

package rss

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Peak returns the largest resident set of the process so far, in bytes, or 0
// where the system does not say.
func Peak() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return int64(u.Maxrss) // bytes; kilobytes elsewhere
	}
	return int64(u.Maxrss) << 10
}
