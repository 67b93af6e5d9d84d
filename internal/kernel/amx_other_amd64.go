//go:build !linux

package kernel

// allowTiles returns false: AMX is supported on Linux only.
func allowTiles() bool { return false }
