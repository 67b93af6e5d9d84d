//go:build unix && !linux

package rss

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Peak returns the peak resident set size of the process in bytes, including mapped pages,
// or 0 if the system does not report it.
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
