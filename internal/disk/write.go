package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"afmq/pkg/fault"
)

// WriteFile writes the file at path atomically and replaces one that exists, whose
// permissions it keeps. A missing parent directory is created. A symbolic link to a regular file or to nothing is itself replaced;
// the file that it points to stays as it is. Anything else, such as a device or a link to
// one, is refused. Errors are of kind fault.Output.
func WriteFile(path string, data []byte) error {
	if err := MakeParent(path); err != nil {
		return err
	}
	removeLeftovers(path)
	old, err := replaceable(path)
	if err == nil {
		err = write(path, data, old, os.Rename)
	}
	return fault.Writing(path, err)
}

// WriteNewFile writes the file at path atomically and fails if anything has that name, a
// symbolic link included, when the data is published. A missing parent directory is created.
// Errors are of kind fault.Output.
func WriteNewFile(path string, data []byte) error {
	if err := MakeParent(path); err != nil {
		return err
	}
	removeLeftovers(path) // a killed writer may have left one beside the file that it published
	err := CheckNew(path)
	if err == nil {
		err = write(path, data, nil, PublishNew)
	}
	if errors.Is(err, fs.ErrExist) {
		err = alreadyExists(path)
	}
	return fault.Writing(path, err)
}

// CheckNew returns an error of kind fault.Output if anything has the name path. What takes
// long to compute a new file checks first, so it creates a missing parent directory here;
// WriteNewFile decides.
func CheckNew(path string) error {
	if err := MakeParent(path); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return alreadyExists(path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fault.Writing(path, err)
	}
	return nil
}

// CheckReplaceable returns an error of kind fault.Output if WriteFile would refuse what has
// the name path. It creates a missing parent directory.
func CheckReplaceable(path string) error {
	if err := MakeParent(path); err != nil {
		return err
	}
	_, err := replaceable(path)
	return fault.Writing(path, err)
}

func alreadyExists(path string) error { return Taken(path, "already exists") }

// Taken returns the error, of kind fault.Output, for an output whose path is taken; msg says by
// what.
func Taken(path, msg string) error {
	return &fault.Error{Kind: fault.Output, File: path, Msg: msg, Hint: "choose another --out; what exists is never overwritten"}
}

// replaceable returns the regular file at path, nil if there is none, and an error if what
// has that name must not be replaced.
func replaceable(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode().IsRegular():
		return info, nil
	case info.Mode().Type() != fs.ModeSymlink:
		return nil, notRegular(path)
	}
	info, err = os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err == nil && !info.Mode().IsRegular():
		err = notRegular(path) // /dev/stdout is such a link
	}
	return nil, err
}

// write writes data to a temporary file of path and publishes that. Its permissions are
// those of old, without old those of os.Create.
func write(path string, data []byte, old fs.FileInfo, publish func(temp, path string) error) error {
	perm := fs.FileMode(0o666)
	if old != nil {
		perm = old.Mode().Perm()
	}
	f, err := createTemp(path, perm)
	if err != nil {
		return err
	}
	defer f.Close() // not before the end: the lock keeps other writers from removing it
	published := false
	defer func() {
		if !published {
			os.Remove(f.Name())
		}
	}()
	if old != nil {
		if err := f.Chmod(perm); err != nil { // the umask may have taken some
			return err
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	Step("written")
	if err := f.Sync(); err != nil {
		return err
	}
	Step("synced")
	if err := publish(f.Name(), path); err != nil {
		return err
	}
	published = true
	Step("published")
	return SyncDir(filepath.Dir(path))
}

// OpenAppend opens the file at path for appending, and creates it if need be. A symbolic
// link is an error.
func OpenAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|noFollow, 0o666)
}
