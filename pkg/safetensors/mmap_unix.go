//go:build linux || darwin || freebsd

package safetensors

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps the file read-only. Tests replace it to make it fail.
var mapFile = func(f *os.File, size int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
}

func unmapFile(data []byte) error { return unix.Munmap(data) }

// releasePages only advises the kernel: if it fails, the memory stays in use.
func releasePages(data []byte) { _ = unix.Madvise(data, unix.MADV_DONTNEED) }
