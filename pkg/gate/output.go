package gate

import (
	"os"
	"path/filepath"

	"afmq/pkg/fault"
)

// CheckOutput returns an error of kind [fault.Usage] if writing file would replace an input
// of the gate: the data file, the baseline, or a file in the directory of the artifact, the
// reference or the adapter. It also refuses a new file in one of these directories. file may
// be absent. [Run] checks the baseline that it is to write; a caller that writes a report
// checks its file before.
func (o *Options) CheckOutput(file string) error {
	if sameFile(file, o.Baseline) {
		return fault.Usagef("%s is the baseline; it cannot be an output, too", file)
	}
	return o.checkInputs(file)
}

// checkInputs is CheckOutput without the baseline.
func (o *Options) checkInputs(file string) error {
	if sameFile(file, o.Data) {
		return fault.Usagef("%s is the data file; it cannot be an output, too", file)
	}
	dirs := []struct{ what, path string }{{"artifact", o.Artifact}, {"reference", o.Reference}}
	if o.Adapter != nil {
		dirs = append(dirs, struct{ what, path string }{"adapter", o.Adapter.Dir})
	}
	for _, d := range dirs {
		if d.path != "" && inside(file, d.path) {
			return fault.Usagef("the output %s is inside the %s directory %s", file, d.what, d.path).
				WithHint("write it to another directory")
		}
	}
	return nil
}

// sameFile reports whether two paths name the same file, which need not exist. A symbolic
// link at out is a file of its own: writing replaces the link.
func sameFile(out, in string) bool {
	if place(out) == place(in) {
		return true
	}
	a, err := os.Lstat(out)
	if err != nil {
		return false
	}
	for _, stat := range []func(string) (os.FileInfo, error){os.Stat, os.Lstat} {
		if b, err := stat(in); err == nil && os.SameFile(a, b) {
			return true
		}
	}
	return false
}

// inside reports whether a file is in a directory, or below it. Directories are compared by
// identity, so links and letter case do not matter.
func inside(file, dir string) bool {
	want, err := os.Stat(dir)
	if err != nil {
		return false // what reads the directory reports the error
	}
	for parent := filepath.Dir(place(file)); ; parent = filepath.Dir(parent) {
		if info, err := os.Stat(parent); err == nil && os.SameFile(info, want) {
			return true
		}
		if parent == filepath.Dir(parent) {
			return false
		}
	}
}

// place returns the absolute path of a file in its directory without symbolic links.
func place(file string) string {
	abs, err := filepath.Abs(file)
	if err != nil {
		abs = file
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return abs
	}
	return filepath.Join(dir, filepath.Base(abs))
}
