//go:build !unix && !windows

package rss

// Peak returns 0: the peak memory is not known here.
func Peak() int64 { return 0 }
