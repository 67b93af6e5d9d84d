// Package stage builds an output directory, or a file that takes long to compute,
// next to its final path. A reader sees all of it or nothing, and a run that was
// killed can be resumed.
//
// A run that creates PARENT/NAME works in the staging directory PARENT/.NAME.afmq:
//
//	lock            locked by the running process until it ends
//	job.json        describes the job; written last when the state is set up
//	journal.jsonl   one JSON record for each completed piece of work
//	state/          files of the run that are never published
//	state.result    the output, if it is a file that is about to be published
//	out/            the contents of the output directory
//
// [Dir.Commit] renames out/ to the target and removes the rest. Until then the target
// does not exist and the same job can resume from the staging directory; from then on
// the target is complete.
package stage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"afmq/internal/disk"
	"afmq/pkg/fault"
)

const (
	lockName    = "lock"
	jobName     = "job.json"
	journalName = "journal.jsonl"
	stateName   = "state"
	resultName  = "state.result" // the file that CommitFile is about to publish
	outName     = "out"
)

// Options configure Open.
type Options struct {
	NeedBytes int64 // size of the whole output in bytes; what is staged already is subtracted
	Restart   bool  // discard the state of an earlier run
	File      bool  // the target is a file, published by CommitFile

	Names []Name // of keys of the job, for the error about the state of another job
}

// Dir is an output directory under construction. It must not be used concurrently.
type Dir struct {
	target, root string
	lock         *os.File
	journal      *Journal
	resumed      bool
	ended        bool
}

// Open starts or resumes the construction of target. job is a JSON object that
// describes the output and its inputs; a run resumes only from the state of a run with
// an equal job.
//
// Open creates the target's parent directory if it is missing.
//
// Open returns an error of kind fault.Output if the target exists and is not empty, if
// its parent directory cannot be created or is read-only, if another process is writing the
// target, or if there is not enough space. A target that cannot name an output is an
// error of kind fault.Usage. The state of a different job is an error of kind
// fault.Input that names the first difference. An error leaves nothing on
// disk but a parent directory.
func Open(target string, job []byte, opts Options) (*Dir, error) {
	if err := checkName(target); err != nil {
		return nil, err
	}
	clean := filepath.Clean(target)
	d := &Dir{target: clean, root: rootOf(clean)}
	if err := d.checkTarget(opts.File); err != nil {
		d.tidy()
		return nil, err
	}
	made, err := d.acquire()
	if err != nil {
		return nil, err
	}
	if err := d.prepare(job, opts); err != nil {
		if made {
			d.Discard()
		} else {
			d.release()
		}
		return nil, err
	}
	return d, nil
}

// rootOf returns the staging directory of a target.
func rootOf(target string) string {
	return filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+".afmq")
}

// Kept returns the staging directory of target if it has the state of a run, and "" otherwise.
func Kept(target string) string {
	root := rootOf(filepath.Clean(target))
	if _, err := os.Stat(filepath.Join(root, jobName)); err != nil {
		return ""
	}
	return root
}

// checkTarget returns an error unless the target can be created in its parent directory, which
// it makes if need be.
func (d *Dir) checkTarget(file bool) error {
	if _, err := os.Lstat(d.target); err != nil {
		if err := disk.MakeParent(d.target); err != nil { // a file is in the way
			return err
		}
	}
	return CheckTarget(d.target, file)
}

// checkName returns an error of kind fault.Usage for the name of no new file or directory.
func checkName(target string) error {
	switch base := filepath.Base(filepath.Clean(target)); {
	case target == "":
		return fault.Usagef("the name of the output is empty")
	case base == "." || base == ".." || base == string(filepath.Separator):
		return fault.Usagef("%s cannot be an output; name a new file or directory", target)
	}
	return nil
}

// CheckTarget returns the error that Open has for the name of a target and, of kind fault.Output, for one that exists and is not an empty
// directory or, as a file, that exists. It writes nothing.
func CheckTarget(target string, file bool) error {
	if err := checkName(target); err != nil {
		return err
	}
	info, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.Writing(target, err)
	case file:
		return disk.Taken(target, "already exists")
	case !info.IsDir():
		return disk.Taken(target, "already exists and is not a directory")
	}
	entries, err := os.ReadDir(target)
	if err != nil {
		return fault.Writing(target, err)
	}
	if len(entries) > 0 {
		return disk.Taken(target, "is not empty")
	}
	return nil
}

func (d *Dir) outputf(format string, args ...any) error {
	return &fault.Error{Kind: fault.Output, File: d.target, Msg: fmt.Sprintf(format, args...)}
}

// tidy removes the state of a run that was killed after it published its target and
// before it removed its staging directory. Such a state has no out/.
func (d *Dir) tidy() {
	if _, err := os.Lstat(d.root); err != nil {
		return
	}
	if _, err := d.acquire(); err != nil {
		return
	}
	if _, err := os.Lstat(d.sub(outName)); errors.Is(err, fs.ErrNotExist) {
		d.Discard()
		return
	}
	d.release()
}

// acquire creates the staging directory if needed and takes its lock.
func (d *Dir) acquire() (made bool, err error) {
	for range 100 {
		err := os.Mkdir(d.root, 0o777)
		made = err == nil
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return false, fault.Writing(d.target, err)
		}
		disk.Step("root")
		if info, err := os.Lstat(d.root); err == nil && !info.IsDir() {
			return false, &fault.Error{Kind: fault.Output, File: d.root, Msg: "exists and is not a directory; the run needs this name for its state"}
		}
		lock, err := disk.OpenLock(d.sub(lockName))
		switch {
		case errors.Is(err, disk.ErrLocked):
			return false, d.outputf("is being written by another process")
		case errors.Is(err, fs.ErrNotExist):
			continue // another process has just finished and removed the directory
		case err != nil:
			if made {
				os.Remove(d.root)
			}
			return false, fault.Writing(d.root, err)
		}
		d.lock = lock
		return made, nil
	}
	return false, d.outputf("is being written by other processes")
}

func (d *Dir) sub(name string) string { return filepath.Join(d.root, name) }

// prepare resumes the state of an earlier run of the same job or sets up a new one.
func (d *Dir) prepare(job []byte, opts Options) error {
	resume := false
	if !opts.Restart {
		var err error
		if resume, err = d.sameJob(job, opts.Names); err != nil {
			return err
		}
	}
	if !resume {
		if err := d.clear(); err != nil {
			return err
		}
	}
	if err := d.checkSpace(opts.NeedBytes); err != nil {
		return err
	}
	d.resumed = resume
	if resume {
		return nil
	}
	for _, name := range []string{stateName, outName} {
		if err := os.Mkdir(d.sub(name), 0o777); err != nil {
			return fault.Writing(d.sub(name), err)
		}
		disk.Step(name)
	}
	return disk.WriteFile(d.sub(jobName), job)
}

// clear removes everything but the lock from the staging directory. job.json goes first:
// without it the rest is ignored.
func (d *Dir) clear() error {
	for _, name := range []string{jobName, journalName, stateName, resultName, outName} {
		if err := os.RemoveAll(d.sub(name)); err != nil {
			return fault.Writing(d.root, err)
		}
		disk.Step("cleared " + name)
	}
	return fault.Writing(d.root, disk.RemoveTemps(d.root))
}

// checkSpace checks that the rest of an output of need bytes fits on the file system.
func (d *Dir) checkSpace(need int64) error {
	return fault.Writing(d.target, disk.CheckFree(d.root, need-stagedBytes(d.sub(outName))))
}

// stagedBytes returns the total size of the files in dir.
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

// Resumed reports whether the run resumes from the state of an earlier one.
func (d *Dir) Resumed() bool { return d.resumed }

// Target returns the path of the output.
func (d *Dir) Target() string { return d.target }

// State returns the path of the directory that holds the state until the output is complete.
func (d *Dir) State() string { return d.root }

// Path returns the path at which to write the file that is published as target/name.
func (d *Dir) Path(name string) string { return filepath.Join(d.root, outName, name) }

// StatePath returns the path of a file of the run that is never published, such as the
// state of an optimizer.
func (d *Dir) StatePath(name string) string { return filepath.Join(d.root, stateName, name) }

// LockPath returns the path of the file that the run has locked.
func (d *Dir) LockPath() string { return d.sub(lockName) }

// LockFile returns the open lock. A program that inherits it keeps the state locked until it ends,
// even where this process ends before.
func (d *Dir) LockFile() *os.File { return d.lock }

// WriteFile atomically writes the file that is published as target/name. name is a plain
// file name, without a directory.
func (d *Dir) WriteFile(name string, data []byte) error {
	if name == "" || filepath.Base(name) != name || !filepath.IsLocal(name) {
		return fmt.Errorf("stage: %q is not a plain file name", name)
	}
	return disk.WriteFile(d.Path(name), data)
}

// Mkdir creates the directory that is published as target/name, unless it exists. Its
// files are written with [disk.WriteFile] to paths under [Dir.Path].
func (d *Dir) Mkdir(name string) error {
	if name == "" || filepath.Base(name) != name || !filepath.IsLocal(name) {
		return fmt.Errorf("stage: %q is not a plain file name", name)
	}
	if err := os.Mkdir(d.Path(name), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return fault.Writing(d.Path(name), err)
	}
	return nil
}
