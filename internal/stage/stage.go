// Package stage builds an output directory beside its final place, so that a
// reader sees all of it or none, and a run that was killed can go on.
//
// A run that makes the directory PARENT/NAME works in PARENT/.NAME.afmq:
//
//	lock            held by the process that is at work, released by its end
//	job.json        what is being made; written last when the state is set up
//	journal.jsonl   one JSON record for each piece of work done
//	state/          files of the run that are never published
//	out/            the directory to be
//
// [Dir.Commit] renames out/ to the target and removes the rest. At every moment
// before that the target is not there and the state can be taken up again by the
// same job; from then on the target is whole.
package stage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"afmq/internal/disk"
	"afmq/internal/fault"
)

const (
	lockName    = "lock"
	jobName     = "job.json"
	journalName = "journal.jsonl"
	stateName   = "state"
	outName     = "out"
)

// Options say what a run needs.
type Options struct {
	NeedBytes int64 // free space that the whole output needs; what is staged already counts as there
	Restart   bool  // discard the state of an earlier run
	File      bool  // the target is a file, published by CommitFile
}

// Dir is an output directory in the making. It belongs to one goroutine.
type Dir struct {
	target, root string
	lock         *os.File
	journal      *Journal
	resumed      bool
	ended        bool
}

// Open starts, or continues, the making of target. job is a JSON object that says
// what is made from what; only a run of an equal job goes on from what an earlier
// one left.
//
// A target that cannot be made, because it is there and not empty, its parent is
// missing or read-only, another process is making it or there is too little space,
// is an error of kind fault.Output; a target that is no name for a directory one
// of kind fault.Usage; the state of another job one of kind fault.Input that names
// the first difference. None of them changes anything.
func Open(target string, job []byte, opts Options) (*Dir, error) {
	clean := filepath.Clean(target)
	switch base := filepath.Base(clean); {
	case target == "":
		return nil, fault.Usagef("the name of the output directory is empty")
	case base == "." || base == ".." || base == string(filepath.Separator):
		return nil, fault.Usagef("%s cannot be replaced; name a directory to be made", target)
	}
	d := &Dir{target: clean, root: filepath.Join(filepath.Dir(clean), "."+filepath.Base(clean)+".afmq")}
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

// checkTarget returns an error unless the target can be made.
func (d *Dir) checkTarget(file bool) error {
	info, err := os.Lstat(d.target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent := filepath.Dir(d.target)
		if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
			return d.outputf("cannot be made: its parent directory does not exist")
		}
		return nil
	case err != nil:
		return fault.Writing(d.target, err)
	case file:
		return d.outputf("already exists")
	case !info.IsDir():
		return d.outputf("already exists and is not a directory")
	}
	entries, err := os.ReadDir(d.target)
	if err != nil {
		return fault.Writing(d.target, err)
	}
	if len(entries) > 0 {
		return d.outputf("is not empty")
	}
	return nil
}

func (d *Dir) outputf(format string, args ...any) error {
	return &fault.Error{Kind: fault.Output, File: d.target, Msg: fmt.Sprintf(format, args...)}
}

// tidy removes the state of a run that was killed between publishing its target
// and cleaning up: it has no out/ any more.
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

// acquire makes the root if it is not there, and takes the lock.
func (d *Dir) acquire() (made bool, err error) {
	for range 100 {
		err := os.Mkdir(d.root, 0o777)
		made = err == nil
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return false, fault.Writing(d.target, err)
		}
		disk.Step("root")
		if info, err := os.Lstat(d.root); err == nil && !info.IsDir() {
			return false, &fault.Error{Kind: fault.Output, File: d.root, Msg: "is in the way of the run's state, and no directory"}
		}
		lock, err := disk.OpenLock(d.sub(lockName))
		switch {
		case errors.Is(err, disk.ErrLocked):
			return false, d.outputf("is being made by another process")
		case errors.Is(err, fs.ErrNotExist):
			continue // another process finished and removed the root meanwhile
		case err != nil:
			if made {
				os.Remove(d.root)
			}
			return false, fault.Writing(d.root, err)
		}
		d.lock = lock
		return made, nil
	}
	return false, d.outputf("is being made by other processes")
}

func (d *Dir) sub(name string) string { return filepath.Join(d.root, name) }

// prepare takes up the state of an earlier run of the same job, or sets up a new one.
func (d *Dir) prepare(job []byte, opts Options) error {
	resume := false
	if !opts.Restart {
		var err error
		if resume, err = d.sameJob(job); err != nil {
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

// clear removes everything from the root but the lock, job.json first: without it
// nothing of the rest counts.
func (d *Dir) clear() error {
	for _, name := range []string{jobName, journalName, stateName, stateName + ".result", outName} {
		if err := os.RemoveAll(d.sub(name)); err != nil {
			return fault.Writing(d.root, err)
		}
		disk.Step("cleared " + name)
	}
	return fault.Writing(d.root, disk.RemoveTemps(d.root))
}

// checkSpace checks that what is still needed fits on the file system.
func (d *Dir) checkSpace(need int64) error {
	return fault.Writing(d.target, disk.CheckFree(d.root, need-stagedBytes(d.sub(outName))))
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

// Resumed says that an earlier run of the same job left its state.
func (d *Dir) Resumed() bool { return d.resumed }

// Target returns the path of the directory to be published.
func (d *Dir) Target() string { return d.target }

// Path returns where to write the file that will be published as target/name.
func (d *Dir) Path(name string) string { return filepath.Join(d.root, outName, name) }

// StatePath returns a path for a file that belongs to the run and is never
// published: an optimizer's state, a score.
func (d *Dir) StatePath(name string) string { return filepath.Join(d.root, stateName, name) }

// WriteFile writes target/name to be, whole or not at all. name is that of a file,
// without a directory.
func (d *Dir) WriteFile(name string, data []byte) error {
	if name == "" || filepath.Base(name) != name || !filepath.IsLocal(name) {
		return fmt.Errorf("stage: %q is no plain file name", name)
	}
	return disk.WriteFile(d.Path(name), data)
}

// Mkdir makes the directory target/name to be, or takes up the one that is there. Its
// files are written with [disk.WriteFile] to paths under [Dir.Path].
func (d *Dir) Mkdir(name string) error {
	if name == "" || filepath.Base(name) != name || !filepath.IsLocal(name) {
		return fmt.Errorf("stage: %q is no plain name", name)
	}
	if err := os.Mkdir(d.Path(name), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return fault.Writing(d.Path(name), err)
	}
	return nil
}

// Commit publishes the directory as target. If it fails the state is as before.
func (d *Dir) Commit() error {
	if d.ended {
		return errors.New("stage: the run has ended")
	}
	out := d.sub(outName)
	if err := finished(out); err != nil {
		return err
	}
	if err := disk.PublishDir(out, d.target); err != nil {
		return fault.Writing(d.target, err)
	}
	disk.Step("published")
	if err := disk.SyncDir(filepath.Dir(d.target)); err != nil {
		return fault.Writing(d.target, err)
	}
	return d.Discard()
}

// finished checks that no file in dir or below it is still being written, removes what
// killed runs left there, and makes the directories survive a crash.
func finished(dir string) error {
	if err := disk.RemoveTemps(dir); err != nil {
		return fault.Writing(dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fault.Writing(dir, err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if disk.IsStaged(e.Name()) {
			return fmt.Errorf("stage: %s is not finished", path)
		}
		if e.IsDir() {
			if err := finished(path); err != nil {
				return err
			}
		}
	}
	return fault.Writing(dir, disk.SyncDir(dir))
}

// CommitFile publishes data as the target, a file, and ends the run. If it fails the run
// can be taken up again, or has to start anew.
func (d *Dir) CommitFile(data []byte) error {
	if d.ended {
		return errors.New("stage: the run has ended")
	}
	result := d.sub(stateName) + ".result"
	if err := disk.WriteFile(result, data); err != nil {
		return err
	}
	// Without out/ the state counts as published: what is left of it after the next step
	// goes when somebody comes by.
	if err := os.RemoveAll(d.sub(outName)); err != nil {
		return fault.Writing(d.root, err)
	}
	disk.Step("out removed")
	if err := disk.PublishNew(result, d.target); err != nil {
		os.Mkdir(d.sub(outName), 0o777) // so that the state can be taken up again
		return fault.Writing(d.target, err)
	}
	disk.Step("published")
	if err := disk.SyncDir(filepath.Dir(d.target)); err != nil {
		return fault.Writing(d.target, err)
	}
	return d.Discard()
}

// Discard removes everything that the run staged. After Commit it does nothing.
func (d *Dir) Discard() error {
	if d.ended {
		return nil
	}
	d.ended = true
	d.closeJournal()
	err := d.clear()
	// The lock goes last: while it is there nobody else starts.
	if e := os.Remove(d.sub(lockName)); err == nil && e != nil {
		err = fault.Writing(d.root, e)
	}
	disk.Step("unlocked")
	if e := os.Remove(d.root); err == nil && e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = fault.Writing(d.root, e)
	}
	d.lock.Close()
	return err
}

// Keep leaves the state for the next run of the same job, if there is anything in
// it to go on from: a record in the journal or a file in the state.
func (d *Dir) Keep() error {
	if d.ended {
		return nil
	}
	if !d.worthKeeping() {
		return d.Discard()
	}
	d.release()
	return nil
}

func (d *Dir) worthKeeping() bool {
	if info, err := os.Stat(d.sub(journalName)); err == nil && info.Size() > 0 {
		return true
	}
	entries, err := os.ReadDir(d.sub(stateName))
	return err == nil && len(entries) > 0
}

// release gives up the lock and leaves everything else.
func (d *Dir) release() {
	d.ended = true
	d.closeJournal()
	d.lock.Close()
}

// End does what the outcome err of a run asks for: Commit for nil, Discard for an
// error of kind Usage, Input or Infeasible, Keep for any other. It returns err, or
// else the error of Commit.
func (d *Dir) End(err error) error {
	if err == nil {
		if err = d.Commit(); err == nil {
			return nil
		}
		d.Keep()
		return err
	}
	switch fault.KindOf(err) {
	case fault.Usage, fault.Input, fault.Infeasible:
		d.Discard()
	default:
		d.Keep()
	}
	return err
}
