//go:build linux || darwin

package safetensors

import (
	"errors"

	"golang.org/x/sys/unix"
)

// checkFree compares the bytes that the file still needs on its way to total with
// what its file system has for ordinary users. Blocks that it has count as its own.
func checkFree(fd int, total int64) error {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	var vfs unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(fd, &vfs) }); err != nil {
		return nil // cannot tell; writing will
	}
	need := total - st.Blocks*512
	if free := uint64(vfs.Bavail) * uint64(vfs.Bsize); need > 0 && uint64(need) > free {
		return &shortError{need: need, free: int64(free)}
	}
	return nil
}

// retry repeats a system call that a signal interrupted.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
