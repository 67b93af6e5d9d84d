package disk

import "golang.org/x/sys/unix"

// renameNoReplace renames a file, or fails with fs.ErrExist if anything has the new name. A
// test replaces it.
var renameNoReplace = func(from, to string) error {
	return retry(func() error { return unix.RenamexNp(from, to, unix.RENAME_EXCL) })
}
