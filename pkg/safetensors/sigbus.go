package safetensors

import (
	"errors"
	"path/filepath"
	"runtime/debug"
	"syscall"
)

// Guard runs f, which reads the mapped file at path. If the file is truncated
// meanwhile, Guard turns the memory fault (SIGBUS) into an error of kind fault.Input
// that names the file. path may also be the directory of a checkpoint.
//
// Guard relies on debug.SetPanicOnFault, which applies to one goroutine: every
// goroutine that reads mapped data needs its own Guard. Faults outside mapped files
// and other panics propagate to the caller.
//
// When f succeeds, Guard also checks the files at path as File.Check does: a file
// truncated within its last page reads as zeros there, without a fault. So it does when f
// fails with EFAULT: a system call such as write has read the mapped data in f's place.
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
	err = f()
	if err == nil || errors.Is(err, syscall.EFAULT) {
		if changed := checkPath(path); changed != nil {
			return changed
		}
	}
	return err
}

// faulted returns the mapping in which the memory fault r occurred, nil if the panic
// value r is something else.
func faulted(r any) *mapping {
	err, ok := r.(error)
	if !ok {
		return nil
	}
	var at interface{ Addr() uintptr } // implemented by the runtime's fault error
	if !errors.As(err, &at) {
		return nil
	}
	return mappingAt(at.Addr())
}

// checkPath checks the open mappings of the file at path, or of the files in the
// directory at path.
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
