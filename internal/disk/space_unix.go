//go:build linux || darwin

package disk

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// CheckFree returns an error that is syscall.ENOSPC if the file system of path has fewer
// than need bytes free for ordinary users. If the free space is unknown it returns nil.
func CheckFree(path string, need int64) error {
	var st unix.Statfs_t
	err := retry(func() error { return unix.Statfs(path, &st) })
	return compare(need, &st, err)
}

// Free returns the bytes that are free for ordinary users on the file system of path; 0 if that is
// unknown.
func Free(path string) int64 {
	var st unix.Statfs_t
	if retry(func() error { return unix.Statfs(path, &st) }) != nil {
		return 0
	}
	return int64(min(uint64(st.Bavail)*uint64(st.Bsize), math.MaxInt64))
}

// Allocated returns the bytes of the blocks that a file has; 0 if that is unknown.
func Allocated(f *os.File) int64 {
	var st unix.Stat_t
	if retry(func() error { return unix.Fstat(int(f.Fd()), &st) }) != nil {
		return 0
	}
	return st.Blocks * 512
}

// checkGrowth returns an error that is syscall.ENOSPC if f cannot grow to total bytes. The
// blocks that f has already count as available.
func checkGrowth(f *os.File, total int64) error {
	fd := int(f.Fd())
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	var vfs unix.Statfs_t
	err := retry(func() error { return unix.Fstatfs(fd, &vfs) })
	return compare(total-st.Blocks*512, &vfs, err)
}

// compare compares need with the free space in st, which err says is unknown.
func compare(need int64, st *unix.Statfs_t, err error) error {
	free := min(uint64(st.Bavail)*uint64(st.Bsize), math.MaxInt64)
	if err == nil && need > 0 && uint64(need) > free {
		return &noSpace{need: need, free: int64(free)}
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
