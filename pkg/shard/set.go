package shard

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"afmq/internal/disk"
	"afmq/internal/infile"
	"afmq/internal/stage"
	"afmq/pkg/fault"
)

// Schema is the version of job.json.
const Schema = "afmq.shards/v1"

// JobFile is the file in the directory of a job that describes it.
const JobFile = "job.json"

// maxJob is the largest job.json that is read.
const maxJob = 256 << 20

// Set is the shards of a job in a directory.
type Set struct {
	Dir     string          `json:"-"`
	Schema  string          `json:"schema"`
	Command string          `json:"command"` // "stats" or "quantize"
	Shards  int             `json:"shards"`
	Job     json.RawMessage `json:"job"`     // all that the result depends on
	Request json.RawMessage `json:"request"` // what the merge needs to know
}

// Join enters a shard's job in a directory, which it makes if need be: the first shard writes
// job.json, the others compare theirs with it. A directory of another job is an error of kind
// fault.Input that names the difference; one that cannot be written is fault.Output.
func Join(dir, command string, s Shard, job []byte, request any, names []Name) (*Set, error) {
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	set := &Set{Dir: dir, Schema: Schema, Command: command, Shards: s.Count, Job: job, Request: text}
	data, err := json.MarshalIndent(set, "", " ")
	if err != nil {
		return nil, err
	}
	if err := disk.MakeParent(filepath.Join(dir, JobFile)); err != nil {
		return nil, err
	}
	if err := checkEmpty(dir); err != nil {
		return nil, err
	}
	writing := disk.WriteNewFile(filepath.Join(dir, JobFile), append(data, '\n'))
	if writing == nil {
		return set, nil
	}
	old, err := Open(dir)
	if err != nil {
		if _, missing := os.Lstat(filepath.Join(dir, JobFile)); errors.Is(missing, fs.ErrNotExist) {
			return nil, writing // a full disk
		}
		return nil, err
	}
	if err := old.differs(command, s, job, names); err != nil {
		if !old.begun() { // its shards failed on their inputs, or begin right now
			return nil, err.WithHint("none of its shards has begun: remove %s if none runs, or choose another --out", filepath.Join(dir, JobFile))
		}
		return nil, err
	}
	return old, nil
}

// differs returns the error of a shard that is of another job, nil if it is of this one.
func (s *Set) differs(command string, sh Shard, job []byte, names []Name) *fault.Error {
	switch {
	case s.Command != command:
		return fault.Inputf(s.Dir, "holds shards of `afmq %s`", s.Command).WithHint("choose another --out")
	case !bytes.Equal(Compact(s.Job), Compact(job)):
		return fault.Inputf(s.Dir, "holds shards of another job: %s", stage.Difference(Compact(s.Job), Compact(job), stageNames(names))).
			WithHint("give all shards the same options and inputs, or choose another --out")
	case s.Shards != sh.Count:
		return fault.Inputf(s.Dir, "is divided into %d shards, and this is one of %d", s.Shards, sh.Count).
			WithHint("give --shard I/%d, or choose another --out", s.Shards)
	}
	return nil
}

// Name is what people call a key of a job: the flag that sets it.
type Name struct{ Key, Words string }

func stageNames(names []Name) (out []stage.Name) {
	for _, n := range names {
		out = append(out, stage.Name(n))
	}
	return out
}

// Compact returns JSON without spaces, as descriptions of jobs are compared, or as it is if it is none.
func Compact(data []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return data
	}
	return b.Bytes()
}

// checkEmpty returns an error if a directory without job.json has something else in it.
func checkEmpty(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, JobFile)); err == nil {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fault.Writing(dir, err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && e.Name() != JobFile {
			return disk.Taken(dir, "is not empty, and has no "+JobFile+" of a job in shards")
		}
	}
	return nil
}

// Is reports whether dir is the directory of a job in shards.
func Is(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, JobFile))
	return err == nil
}

// Open reads the description of a job. Errors are fault.Input.
func Open(dir string) (*Set, error) {
	path := filepath.Join(dir, JobFile)
	data, err := infile.Read(path, maxJob)
	if err != nil {
		return nil, err
	}
	s := &Set{Dir: dir}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fault.Inputf(path, "is not the description of a job in shards: %v", err)
	}
	switch {
	case s.Schema != Schema:
		return nil, fault.Inputf(path, "has schema %q; this version reads %q", s.Schema, Schema)
	case s.Shards < 1 || s.Shards > maxCount:
		return nil, fault.Inputf(path, "has %d shards; expected 1 to %d", s.Shards, maxCount)
	case len(s.Job) == 0:
		return nil, fault.Inputf(path, "names no job")
	}
	return s, nil
}

// Path returns the directory of a shard.
func (s *Set) Path(index int) string {
	return filepath.Join(s.Dir, Shard{index, s.Shards}.Name())
}

// Finished reports whether a shard is complete: its directory appears with all its files. An empty one
// is not a shard's.
func (s *Set) Finished(index int) bool {
	entries, err := os.ReadDir(s.Path(index))
	return err == nil && len(entries) > 0
}

// begun reports whether a shard of the job is complete or has saved state.
func (s *Set) begun() bool {
	for i := range s.Shards {
		if s.Finished(i) || stage.Kept(s.Path(i)) != "" {
			return true
		}
	}
	return false
}

// Complete returns an error of kind fault.Input that names the shards that are missing, if any.
func (s *Set) Complete() error {
	var missing []string
	for i := range s.Shards {
		if !s.Finished(i) {
			missing = append(missing, Shard{i, s.Shards}.String())
		}
	}
	if len(missing) == 0 {
		return nil
	}
	const most = 8
	list := strings.Join(missing[:min(len(missing), most)], ", ")
	if len(missing) > most {
		list += ", …"
	}
	return fault.Inputf(s.Dir, "%d of %d shards are missing: %s", len(missing), s.Shards, list).
		WithHint("`afmq merge %s --status` shows what they do; run `afmq %s` again with --shard I/N for those that have stopped", s.Dir, s.Command)
}
