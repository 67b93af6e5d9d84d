package disk

import (
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// CheckFree returns an error that is syscall.ENOSPC if the file system of path has fewer
// than need bytes free for this user. If the free space is unknown it returns nil.
func CheckFree(path string, need int64) error {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil
	}
	free := uint64(math.MaxInt64)
	if windows.GetDiskFreeSpaceEx(name, &free, nil, nil) == nil && need > 0 && uint64(need) > free {
		return &noSpace{need: need, free: int64(free)}
	}
	return nil
}

// Reserve checks that f can grow to total bytes. A lack of space is syscall.ENOSPC.
func Reserve(f *os.File, total int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return CheckFree(filepath.Dir(f.Name()), total-info.Size())
}
