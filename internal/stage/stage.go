// Package stage builds an output directory beside its final place, so that a
// reader sees all of it or none, and a run that was killed can go on.
package stage

import "encoding/json"

// Options say what a run needs.
type Options struct {
	NeedBytes int64 // free space that the whole output needs; what is staged already counts as there
	Restart   bool  // discard the state of an earlier run
}

// Dir is an output directory in the making. It belongs to one goroutine.
type Dir struct{ todo int }

// Open starts, or continues, the making of target.
func Open(target string, job []byte, opts Options) (*Dir, error) { panic("todo") }

// Resumed says that an earlier run of the same job left its state.
func (d *Dir) Resumed() bool { panic("todo") }

// Target returns the path of the directory to be published.
func (d *Dir) Target() string { panic("todo") }

// Path returns where to write the file that will be published as target/name.
func (d *Dir) Path(name string) string { panic("todo") }

// StatePath returns a path for a file that belongs to the run and is never
// published: an optimizer's state, a score.
func (d *Dir) StatePath(name string) string { panic("todo") }

// Journal opens the run's journal; every call returns the same one.
func (d *Dir) Journal() (*Journal, error) { panic("todo") }

// WriteFile writes target/name to be, whole or not at all.
func (d *Dir) WriteFile(name string, data []byte) error { panic("todo") }

// Commit publishes the directory as target.
func (d *Dir) Commit() error { panic("todo") }

// Discard removes everything that the run staged. After Commit it does nothing.
func (d *Dir) Discard() error { panic("todo") }

// Keep leaves the state for the next run of the same job.
func (d *Dir) Keep() error { panic("todo") }

// End does what the outcome err of a run asks for: Commit for nil, Discard for an
// error of kind Usage, Input or Infeasible, Keep for any other. It returns err, or
// else the error of Commit.
func (d *Dir) End(err error) error { panic("todo") }

// Journal is an append-only list of JSON records.
type Journal struct{ todo int }

// Records returns the records that earlier runs left, oldest first.
func (j *Journal) Records() []json.RawMessage { panic("todo") }

// Append adds the JSON of v, on one line, and returns once it would survive a crash.
func (j *Journal) Append(v any) error { panic("todo") }

// WriteFileAtomic writes path whole or not at all.
func WriteFileAtomic(path string, data []byte) error { panic("todo") }
