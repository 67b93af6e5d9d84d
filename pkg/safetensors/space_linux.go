package safetensors

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve allocates the file's blocks up to total bytes without changing its size,
// so that a disk that fills up meanwhile does not hurt. Where the file system
// cannot, the free space is only looked at. A lack of it is a *shortError.
func reserve(f *os.File, total int64) error {
	fd := int(f.Fd())
	if err := checkFree(fd, total); err != nil {
		return err
	}
	err := retry(func() error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, total) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
