//go:build !windows

package disk

import (
	"io/fs"
	"os"
)

// openFile is os.OpenFile. The opened file can be renamed and removed.
func openFile(path string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(path, flag, perm)
}

// RemoveLock removes the file at path, whose lock f holds, and closes f. The lock is
// released last: until then no other process takes the file for a leftover.
func RemoveLock(f *os.File, path string) error {
	defer f.Close()
	return os.Remove(path)
}
