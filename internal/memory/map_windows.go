package memory

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// mapShared maps a file for reading and writing.
func mapShared(f *os.File, size int) ([]byte, error) {
	section, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, windows.PAGE_READWRITE, 0, 0, nil)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(section) // the view keeps the section
	addr, err := windows.MapViewOfFile(section, windows.FILE_MAP_WRITE, 0, 0, uintptr(size))
	if err != nil {
		return nil, err
	}
	// Not unsafe.Pointer(addr): vet knows no memory outside of Go's.
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), size), nil
}

func unmap(data []byte) {
	_ = windows.UnmapViewOfFile(uintptr(unsafe.Pointer(unsafe.SliceData(data))))
}

// dropPages removes pages from the working set, which VirtualUnlock does with pages that are not
// locked; it then reports an error.
func dropPages(data []byte) {
	_ = windows.VirtualUnlock(uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)))
}

// removeMapped reports false: a mapped file cannot be removed.
func removeMapped(string) bool { return false }
