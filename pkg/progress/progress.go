// Package progress is the interface through which long jobs report their progress, to a bar on a
// terminal, lines in a log, or nothing.
package progress

// Reporter receives the progress of a job. Stage, Status and Done are called from one goroutine at
// a time; Advance may be called from several at once.
type Reporter interface {
	// Stage starts the next stage of the job. total is the amount of work in
	// it, counted in unit ("B" for bytes, "tokens", "modules").
	Stage(name string, total int64, unit string)
	// Advance reports that n more units of the current stage are done.
	Advance(n int64)
	// Status describes the state of the current stage in a few words: "loss 0.0123".
	Status(text string)
	// Done ends the last stage.
	Done()
}

// Silent is a Reporter that ignores all reports.
var Silent Reporter = silent{}

type silent struct{}

func (silent) Stage(string, int64, string) {}
func (silent) Advance(int64)               {}
func (silent) Status(string)               {}
func (silent) Done()                       {}
