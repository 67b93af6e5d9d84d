//go:build !linux

package kernel

// allowTiles reports false: no other system with tile registers is known to this package.
func allowTiles() bool { return false }
