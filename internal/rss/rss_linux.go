// Package rss reports the peak memory of the process.
package rss

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// Peak returns the peak resident set size of the process in bytes, including mapped pages,
// or 0 if the system does not report it. It does not use getrusage, which after fork also
// includes the memory of the parent process.
func Peak() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err == nil {
				return kb << 10
			}
		}
	}
	return 0
}
