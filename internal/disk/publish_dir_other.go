//go:build !windows

package disk

import (
	"errors"
	"syscall"
)

// PublishDir renames the directory temp to path. It replaces an empty directory there and
// fails on anything else.
func PublishDir(temp, path string) error {
	// os.Rename refuses an empty directory. The system call replaces nothing else, and does
	// that in one step.
	for {
		if err := syscall.Rename(temp, path); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
