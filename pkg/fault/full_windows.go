package fault

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// diskFull reports whether err says that a file system is full.
func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}
