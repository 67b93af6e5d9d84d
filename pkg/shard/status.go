package shard

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"afmq/internal/disk"
	"afmq/internal/stage"
)

// State is what a shard does.
type State string

const (
	Done    State = "done"
	Running State = "running" // its lock is held
	Stopped State = "stopped" // it has saved state, and no process has its lock
	Missing State = "missing" // it has not begun
)

// Status is the state of one shard.
type Status struct {
	Shard  int    `json:"shard"` // from 0
	State  State  `json:"state"`
	Pieces int    `json:"pieces"` // finished pieces of work: layers, or tensors
	Total  int    `json:"total"`  // all of them; 0 if the shard has not said
	Path   string `json:"path"`   // of its directory, or of its saved state
	// Idle is the number of seconds since the shard last saved something, by the clock of the file
	// system; null for a shard that is done or has not begun.
	Idle *float64 `json:"idle_seconds"`
}

// piecesFile is the file in the state of a shard with the number of its pieces.
const piecesFile = "pieces"

// SetPieces says of how many pieces the shard consists whose state dir is. Each is a record in its
// journal.
func SetPieces(path string, n int) error {
	return disk.WriteFile(filepath.Join(path, piecesFile), []byte(strconv.Itoa(n)+"\n"))
}

// Status returns the state of all shards. It needs to write to the directory: the time of a file that
// it makes and removes is the present time of the file system, whose clock may be another than that
// of this machine. Where that fails, this machine's clock is used.
func (s *Set) Status() []Status {
	now := s.now()
	out := make([]Status, s.Shards)
	for i := range out {
		out[i] = s.status(i, now)
	}
	return out
}

func (s *Set) status(i int, now time.Time) Status {
	st := Status{Shard: i, State: Missing, Path: s.Path(i)}
	if s.Finished(i) {
		st.State = Done
		return st
	}
	root := stage.Kept(s.Path(i))
	if root == "" {
		return st
	}
	st.State, st.Path = Stopped, root
	if locked(filepath.Join(root, "lock")) {
		st.State = Running
	}
	last := time.Time{}
	if data, err := os.ReadFile(filepath.Join(root, "journal.jsonl")); err == nil {
		st.Pieces = bytes.Count(data, []byte("\n"))
	}
	for _, name := range []string{"journal.jsonl", "job.json"} {
		if info, err := os.Stat(filepath.Join(root, name)); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	if !last.IsZero() {
		idle := max(0, now.Sub(last).Seconds())
		st.Idle = &idle
	}
	if data, err := os.ReadFile(filepath.Join(root, "state", piecesFile)); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && n >= 0 {
			st.Total = n
		}
	}
	return st
}

// locked reports whether a process holds the lock.
func locked(path string) bool {
	f, err := disk.OpenLocked(path)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, disk.ErrLocked)
}

// now returns the present time by the clock of the file system.
func (s *Set) now() time.Time {
	f, err := os.CreateTemp(s.Dir, ".afmq-clock-*")
	if err != nil {
		return time.Now()
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString("x"); err != nil {
		return time.Now()
	}
	info, err := f.Stat()
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}
