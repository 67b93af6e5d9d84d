package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// renameNoReplace renames a file, or fails with fs.ErrExist if anything has the new name. A
// test replaces it.
var renameNoReplace = func(from, to string) error { return move(from, to) }

// PublishDir renames the directory temp to path. It replaces an empty directory there and
// fails on anything else. The empty directory is removed first: a crash between the two
// steps leaves neither.
func PublishDir(temp, path string) error {
	err := move(temp, path)
	if !errors.Is(err, windows.ERROR_ALREADY_EXISTS) && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return err
	}
	// RemoveDirectory would remove a link to a directory, too.
	if info, statErr := os.Lstat(path); statErr != nil || !info.IsDir() {
		return err
	}
	name, nameErr := windows.UTF16PtrFromString(path)
	if nameErr != nil || windows.RemoveDirectory(name) != nil {
		return err
	}
	return move(temp, path)
}

// move renames a file or directory, never over another.
func move(from, to string) error {
	x, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	y, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	return windows.MoveFileEx(x, y, windows.MOVEFILE_WRITE_THROUGH)
}
