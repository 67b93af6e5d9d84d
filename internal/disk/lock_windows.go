package disk

import (
	"errors"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/windows"
)

// noFollow is 0: Windows has no such flag. hold refuses a link, because the opened file is
// another than the one with the name.
const noFollow = 0

// tryLock locks f until it is closed, which the end of the process does too. The lock is on
// one byte far behind the end of any file, because locks of Windows also exclude reading and
// writing. held is false on a file system without locks. A lock held by another open file,
// even of this process, is ErrLocked.
func tryLock(f *os.File) (held bool, err error) {
	at := windows.Overlapped{OffsetHigh: math.MaxInt32}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION):
		return false, ErrLocked
	case errors.Is(err, windows.ERROR_NOT_SUPPORTED) || errors.Is(err, windows.ERROR_INVALID_FUNCTION):
		return false, nil
	}
	return false, err
}

// ownedByUser is true: whether the user may remove a file is for Windows to decide.
func ownedByUser(fs.FileInfo) bool { return true }
