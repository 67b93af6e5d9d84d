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

// Commit publishes out/ as the target, in place of an empty directory there. If it fails,
// the run can still be resumed.
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

// finished checks that no file in dir or below it is incomplete, removes temporary files
// that killed runs left, and syncs the directories.
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
			return fmt.Errorf("stage: %s is incomplete", path)
		}
		if e.IsDir() {
			if err := finished(path); err != nil {
				return err
			}
		}
	}
	return fault.Writing(dir, disk.SyncDir(dir))
}

// CommitFile publishes data as the target, a file, and ends the run. It fails if the
// target exists by then; the run can still be resumed.
func (d *Dir) CommitFile(data []byte) error {
	if d.ended {
		return errors.New("stage: the run has ended")
	}
	result := d.sub(resultName)
	if err := disk.WriteFile(result, data); err != nil {
		return err
	}
	// A state without out/ counts as published, so that a later run removes it if this one is
	// killed after the next step.
	if err := os.RemoveAll(d.sub(outName)); err != nil {
		return fault.Writing(d.root, err)
	}
	disk.Step("out removed")
	if err := disk.PublishNew(result, d.target); err != nil {
		os.Mkdir(d.sub(outName), 0o777) // nothing was published
		return fault.Writing(d.target, err)
	}
	disk.Step("published")
	if err := disk.SyncDir(filepath.Dir(d.target)); err != nil {
		return fault.Writing(d.target, err)
	}
	return d.Discard()
}

// Discard ends the run and removes its staging directory. After Commit it does nothing.
func (d *Dir) Discard() error {
	if d.ended {
		return nil
	}
	d.ended = true
	d.closeJournal()
	err := d.clear()
	// The lock is removed last: while it exists no other process starts.
	if e := disk.RemoveLock(d.lock, d.sub(lockName)); err == nil && e != nil {
		err = fault.Writing(d.root, e)
	}
	disk.Step("unlocked")
	if e := os.Remove(d.root); err == nil && e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = fault.Writing(d.root, e)
	}
	return err
}

// Keep ends the run and leaves its state for the next run of the same job. If there is
// nothing to resume from, neither a record in the journal nor a file in state/, it removes
// the staging directory.
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

// release ends the run, releases the lock and leaves everything else.
func (d *Dir) release() {
	d.ended = true
	d.closeJournal()
	d.lock.Close()
}

// End ends a run with the result err: it calls Commit for nil, Discard for an error of kind
// Usage, Input or Infeasible, and Keep for any other error. It returns err or, if that is
// nil, the error of Commit.
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
