// Package progress is how long work says how far it has come, without knowing
// who listens: a bar on a terminal, plain lines in a log, or nobody.
package progress

// Reporter receives the progress of one job. Its methods are called from one
// goroutine at a time for Stage and Done; Advance may be called from many.
type Reporter interface {
	// Stage starts the next stage of the job. total is the amount of work in
	// it, counted in unit ("B" for bytes, "tokens", "modules").
	Stage(name string, total int64, unit string)
	// Advance reports that n more units of the current stage are done.
	Advance(n int64)
	// Status says how the current stage is doing, in a few words: "loss 0.0123".
	Status(text string)
	// Done ends the last stage.
	Done()
}

// Silent is a Reporter that says nothing.
var Silent Reporter = silent{}

type silent struct{}

func (silent) Stage(string, int64, string) {}
func (silent) Advance(int64)               {}
func (silent) Status(string)               {}
func (silent) Done()                       {}
