package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Reserve allocates the blocks of f up to total bytes without changing its size, so that a
// disk that fills up later cannot stop the writer. Where the file system cannot allocate
// ahead, only the free space is checked. A lack of space is syscall.ENOSPC.
func Reserve(f *os.File, total int64) error {
	if err := checkGrowth(f, total); err != nil {
		return err
	}
	err := retry(func() error { return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, total) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
