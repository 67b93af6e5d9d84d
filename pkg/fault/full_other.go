//go:build !windows

package fault

import (
	"errors"
	"syscall"
)

// diskFull reports whether err says that a file system is full.
func diskFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }
