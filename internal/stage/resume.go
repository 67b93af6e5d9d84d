package stage

import (
	"bytes"
	"errors"
	"io/fs"
	"os"

	"afmq/pkg/fault"
)

// maxStateBytes bounds the size of the job and the journal of an earlier run. They grow
// with the number of tensors, not with their size.
const maxStateBytes = 1 << 30

// sameJob reports whether the staging directory has the state of the same job. The state
// of a different job is an error. A state without job.json or out/ is ignored.
func (d *Dir) sameJob(job []byte, names []Name) (bool, error) {
	path := d.sub(jobName)
	old, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !bytes.Equal(old, job) {
		return false, d.otherJob(old, job, names)
	}
	if _, err := os.Lstat(d.sub(resultName)); err == nil {
		// Killed just before CommitFile published its file.
		os.Mkdir(d.sub(outName), 0o777)
	}
	for _, name := range []string{outName, stateName} {
		if info, err := os.Lstat(d.sub(name)); err != nil || !info.IsDir() {
			return false, nil // without out/ the earlier run had published
		}
	}
	return true, nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, fault.Reading(path, err)
	case !info.Mode().IsRegular():
		return nil, fault.Inputf(path, "is not a regular file")
	case info.Size() > maxStateBytes:
		return nil, fault.Inputf(path, "has %d bytes; the limit is %d", info.Size(), int64(maxStateBytes))
	}
	data, err := os.ReadFile(path)
	return data, fault.Reading(path, err)
}
