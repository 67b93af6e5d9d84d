//go:build unix

package memory

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapShared maps a file for reading and writing.
func mapShared(f *os.File, size int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func unmap(data []byte) { _ = unix.Munmap(data) }

// dropPages removes pages from the process's memory; their content is in the file.
func dropPages(data []byte) { _ = unix.Madvise(data, unix.MADV_DONTNEED) }

// removeMapped removes the name of a mapped file, whose content stays until it is unmapped.
func removeMapped(path string) bool { return os.Remove(path) == nil }
