package stage

import (
	"io/fs"
	"os"
	"path/filepath"

	"afmq/internal/disk"
	"afmq/internal/fault"
)

// WriteFileAtomic writes path whole or not at all: a file that was there keeps its
// content until the new one is on disk.
func WriteFileAtomic(path string, data []byte) (err error) {
	temp := path + ".partial"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return fault.Writing(path, err)
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
			err = fault.Writing(path, err)
		}
	}()
	_, err = f.Write(data)
	step("written")
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	step("synced")
	if err = os.Rename(temp, path); err != nil {
		return err
	}
	step("renamed")
	return disk.SyncDir(filepath.Dir(path))
}

// stagedBytes returns the size of the files in dir.
func stagedBytes(dir string) int64 {
	n := int64(0)
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
