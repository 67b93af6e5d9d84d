package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"afmq/pkg/fault"
)

// MakeParent creates the directory of path, with its parents, unless it exists. What it has
// created survives a crash, and stays if a later step fails. Errors are of kind fault.Output
// and name path and the element that stands in the way.
func MakeParent(path string) error {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return &fault.Error{Kind: fault.Output, File: path, Msg: "cannot be created", Err: err}
	}
	return nil
}

// makeDir is os.MkdirAll, which also syncs and says which element cannot be created.
func makeDir(dir string) error {
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return fmt.Errorf("%s: %w", dir, bare(err))
	}
	if err := makeDir(parent); err != nil {
		return err
	}
	switch err := os.Mkdir(dir, 0o777); {
	case err == nil:
		return SyncDir(parent)
	case !errors.Is(err, fs.ErrExist):
		return fmt.Errorf("cannot create the directory %s: %w", dir, bare(err))
	}
	// Another process was faster, or a link that points to nothing has the name.
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	return nil
}

// bare drops the path of an error of the file system.
func bare(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
