//go:build linux || darwin

package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// noFollow makes open fail on a symbolic link.
const noFollow = unix.O_NOFOLLOW

// tryLock locks f until it is closed, which the end of the process does too. held is false
// on a file system without locks, as some network ones are. A lock held by another open
// file, even of this process, is ErrLocked.
func tryLock(f *os.File) (held bool, err error) {
	err = retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, ErrLocked
	case errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOLCK):
		return false, nil
	}
	return false, err
}

// ownedByUser reports whether the file belongs to the user of this process.
func ownedByUser(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
