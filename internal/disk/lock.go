package disk

import (
	"errors"
	"os"
)

// ErrLocked says that another open file holds the lock.
var ErrLocked = errors.New("is in use by another process")

// OpenLock opens the lock file at path, which it creates if need be, and locks it until it
// is closed or the process ends. On a file system without locks it succeeds without one.
// A symbolic link is an error.
func OpenLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|noFollow, 0o666)
	if err != nil {
		return nil, err
	}
	if _, err := tryLock(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
