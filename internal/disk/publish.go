package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// PublishNew renames the file temp to path, in the same file system, unless anything has
// that name: then the error is fs.ErrExist, and of two racing calls one returns it.
//
// It renames without replacing where the file system can, else makes a hard link and
// removes temp. Where neither works (some network and FUSE file systems) it creates path
// with O_EXCL and renames over that; a crash between the two leaves path empty.
func PublishNew(temp, path string) error {
	err := renameNoReplace(temp, path)
	if unsupported(err) {
		err = publishLink(temp, path)
	}
	if unsupported(err) {
		err = publishReserved(temp, path)
	}
	return err
}

// link is os.Link, which a test makes fail.
var link = os.Link

// publishLink makes a hard link, which like a rename happens in one step and never
// replaces.
func publishLink(temp, path string) error {
	err := link(temp, path)
	if errors.Is(err, fs.ErrExist) && sameFile(temp, path) {
		err = nil // a network file system repeated a request that had succeeded
	}
	if err != nil {
		return err
	}
	Step("linked")
	os.Remove(temp) // what stays is a leftover like that of a killed writer
	return nil
}

func sameFile(a, b string) bool {
	x, err := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

func publishReserved(temp, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	f.Close()
	Step("reserved")
	if err := os.Rename(temp, path); err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

// unsupported reports whether err says that the file system, the kernel or a sandbox does
// not know the operation.
func unsupported(err error) bool {
	for _, e := range []error{errors.ErrUnsupported, syscall.EINVAL, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
