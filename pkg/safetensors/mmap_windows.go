package safetensors

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// mapFile maps the file read-only. Tests replace it to make it fail.
var mapFile = func(f *os.File, size int) ([]byte, error) {
	section, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, windows.PAGE_READONLY, 0, 0, nil)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(section) // the view keeps the section
	addr, err := windows.MapViewOfFile(section, windows.FILE_MAP_READ, 0, 0, uintptr(size))
	if err != nil {
		return nil, err
	}
	// Not unsafe.Pointer(addr): vet knows no memory outside of Go's.
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), size), nil
}

func unmapFile(data []byte) error {
	return windows.UnmapViewOfFile(uintptr(unsafe.Pointer(unsafe.SliceData(data))))
}

// releasePages removes pages from the working set, which VirtualUnlock does with pages that
// are not locked. It then reports an error. If it fails, the memory stays in use.
func releasePages(data []byte) {
	_ = windows.VirtualUnlock(uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)))
}
