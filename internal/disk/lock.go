package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"afmq/pkg/fault"
)

// ErrLocked says that another open file holds the lock.
var ErrLocked = errors.New("is in use by another process")

// OpenLock opens the lock file at path, which it creates if need be, and locks it until it
// is closed or the process ends. On a file system without locks it succeeds without one.
// A symbolic link is an error. The error is fs.ErrNotExist if the file was removed before
// it was locked.
func OpenLock(path string) (*os.File, error) {
	f, err := openFile(path, os.O_RDWR|os.O_CREATE|noFollow, 0o666)
	if err != nil {
		return nil, err
	}
	if _, err := hold(f, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// OpenLocked opens the regular file at path for reading and writing and locks it, with
// errors like those of OpenLock. Anything but a regular file is an error of kind
// fault.Output.
func OpenLocked(path string) (*os.File, error) {
	f, _, err := openHeld(path)
	return f, err
}

// openHeld is OpenLocked, which also says whether the lock is held.
func openHeld(path string) (f *os.File, held bool, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, false, err
	}
	if !info.Mode().IsRegular() {
		return nil, false, notRegular(path)
	}
	// A named pipe that takes the file's place now would block without O_NONBLOCK.
	f, err = openFile(path, os.O_RDWR|noFollow|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, false, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
		err = notRegular(path)
	}
	if err == nil {
		held, err = hold(f, path)
	}
	if err != nil {
		f.Close()
		return nil, false, err
	}
	return f, held, nil
}

func notRegular(path string) error {
	return &fault.Error{Kind: fault.Output, File: path, Msg: "is not a regular file"}
}

// hold locks f. It returns fs.ErrNotExist unless path is still the name of f: whoever held
// the lock before may have removed or renamed the file.
func hold(f *os.File, path string) (held bool, err error) {
	if held, err = tryLock(f); err != nil {
		return false, err
	}
	opened, err := f.Stat()
	if err != nil {
		return false, err
	}
	if named, err := os.Lstat(path); err != nil || !os.SameFile(opened, named) {
		return false, fs.ErrNotExist
	}
	return held, nil
}
