// Package rss tells how much memory the process has taken.
package rss

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// Peak returns the largest resident set of the process so far, in bytes. It
// counts mapped pages. getrusage would also count what the parent process had
// before it started this one.
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
