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

// Free returns the bytes that are free for this user on the file system of path; 0 if that is
// unknown.
func Free(path string) int64 {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0
	}
	free := uint64(0)
	if windows.GetDiskFreeSpaceEx(name, &free, nil, nil) != nil {
		return 0
	}
	return int64(min(free, math.MaxInt64))
}

// Allocated returns the size of a file, whose clusters Windows allocates when it grows.
func Allocated(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// Reserve checks that f can grow to total bytes. A lack of space is syscall.ENOSPC.
func Reserve(f *os.File, total int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return CheckFree(filepath.Dir(f.Name()), total-info.Size())
}
