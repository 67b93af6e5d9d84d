package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// openFile is os.OpenFile for files that are renamed or removed while they are open, which
// Windows allows only if they were opened with FILE_SHARE_DELETE. A new file is read-only
// if perm has no bit for writing.
func openFile(path string, flag int, perm fs.FileMode) (*os.File, error) {
	fail := func(err error) (*os.File, error) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return fail(err)
	}
	access := uint32(windows.GENERIC_READ | windows.GENERIC_WRITE)
	disposition := uint32(windows.OPEN_EXISTING)
	switch {
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		disposition = windows.CREATE_NEW
	case flag&os.O_CREATE != 0:
		disposition = windows.OPEN_ALWAYS
	}
	attributes := uint32(windows.FILE_ATTRIBUTE_NORMAL)
	if perm&syscall.S_IWRITE == 0 && flag&os.O_CREATE != 0 {
		attributes = windows.FILE_ATTRIBUTE_READONLY
	}
	share := uint32(windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE)
	h, err := windows.CreateFile(name, access, share, nil, disposition, attributes, 0)
	if err != nil {
		return fail(err)
	}
	return os.NewFile(uintptr(h), path), nil
}

// RemoveLock closes f and removes the file at path, whose lock f held. A file that is
// removed while it is open keeps its directory from being removed. Another process that
// locks the file in between removes it at its own end.
func RemoveLock(f *os.File, path string) error {
	f.Close()
	if err := os.Remove(path); !errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		return err
	}
	return nil
}
