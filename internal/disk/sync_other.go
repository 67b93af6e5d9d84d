//go:build !windows

package disk

import (
	"errors"
	"os"
	"syscall"
)

// SyncDir makes a rename, link or removal in dir survive a crash. A file system that cannot
// sync a directory reports EINVAL or ENOTSUP, which is not an error here.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}
