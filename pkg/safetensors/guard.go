package safetensors

import (
	"errors"
	"path/filepath"
	"runtime/debug"
)

// Guard runs f, which reads the mapped file at path, and turns the fault of a file
// that was truncated meanwhile into an error of kind fault.Input that names the
// file. path may also be the directory of a checkpoint.
//
// A page that is no longer behind the file is a signal, which ends the process
// unless the goroutine asked for a panic instead (debug.SetPanicOnFault). That
// covers one goroutine: each that reads a mapped file needs its own Guard. A fault
// anywhere but in a mapped file, and every other panic, goes on to the caller.
//
// After f has succeeded Guard also checks, as File.Check does, that the files at
// path are still what they were when they were opened: a file cut within its last
// page reads as zeros there and faults nowhere.
func Guard(path string, f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		m := faulted(r)
		if m == nil {
			panic(r)
		}
		err = m.changed()
	}()
	if err := f(); err != nil {
		return err
	}
	return checkPath(path)
}

// faulted returns the mapping that the panic value r is a fault in, nil if it is
// none.
func faulted(r any) *mapping {
	err, ok := r.(error)
	if !ok {
		return nil
	}
	var at interface{ Addr() uintptr } // what the runtime's fault error has
	if !errors.As(err, &at) {
		return nil
	}
	return mappingAt(at.Addr())
}

// checkPath checks the live mappings of one file, or of the files of one directory.
func checkPath(path string) error {
	live.Lock()
	defer live.Unlock()
	for m := range live.set {
		if m.path == path || filepath.Dir(m.path) == filepath.Clean(path) {
			if err := m.check(); err != nil {
				return err
			}
		}
	}
	return nil
}
