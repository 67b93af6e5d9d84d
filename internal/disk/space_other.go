//go:build !(linux || darwin || windows)

package disk

import "os"

// CheckFree returns nil: the free space is unknown here.
func CheckFree(string, int64) error { return nil }

// Free returns 0: the free space is unknown.
func Free(string) int64 { return 0 }

// Allocated returns 0: the blocks of a file are unknown.
func Allocated(*os.File) int64 { return 0 }

// Reserve returns nil: the free space is unknown here.
func Reserve(*os.File, int64) error { return nil }
