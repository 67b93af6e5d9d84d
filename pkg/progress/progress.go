// Package progress is the interface through which long jobs report their progress, to a bar on a
// terminal, lines in a log, or nothing.
//
// A job has stages. It announces their names with [Begin], starts each with Reporter.Stage and
// reports the work of it with Advance. Work is counted in units that take about equal time, such
// as multiplications, so that the time left follows from the work left. A job may run inside
// another one, which announces the stages of both.
package progress

// Reporter receives the progress of a job. Advance may be called from several goroutines at once,
// the other methods from one at a time.
type Reporter interface {
	// Stage starts the next stage of the job and ends the one before.
	Stage(s Stage)
	// Advance reports that n more units of the work of the current stage are done.
	Advance(n int64)
	// Status describes the state of the current stage in a few words: "loss 0.0123".
	Status(text string)
	// Notice is one line of text about the job, such as what it continues from.
	Notice(text string)
	// Saved says in a few words what the same job would continue from if it were stopped now:
	// "12 of 56 modules in .out.afmq".
	Saved(text string)
	// Done ends the current stage.
	Done()
}

// Stage is one stage of a job.
type Stage struct {
	Name string // what it does, in a few words: "score modules"
	// Number is the stage's place among the Of stages of the job, from 1. Both are 0 for a stage
	// that the job did not announce. Begin sets them.
	Number, Of int
	Work       int64 // in units that take about equal time
	Done       int64 // the part of Work that an earlier run did
}

// Begin returns a Reporter for a job of these stages, in their order. It numbers the stages that
// the job starts and passes all reports to p; nil stands for [Silent]. A stage that is left out
// counts as passed. Where p is from Begin already, the job is part of another that has announced
// all stages, and Begin returns p.
func Begin(p Reporter, stages ...string) Reporter {
	if j, ok := p.(*job); ok {
		return j
	}
	if p == nil {
		p = Silent
	}
	return &job{Reporter: p, stages: stages}
}

// job numbers stages.
type job struct {
	Reporter
	stages []string
	passed int // stages started or left out
}

func (j *job) Stage(s Stage) {
	s.Number, s.Of = 0, 0
	for i, name := range j.stages[j.passed:] {
		if name == s.Name {
			j.passed += i + 1
			s.Number, s.Of = j.passed, len(j.stages)
			break
		}
	}
	j.Reporter.Stage(s)
}

// Silent is a Reporter that ignores all reports.
var Silent Reporter = silent{}

type silent struct{}

func (silent) Stage(Stage)   {}
func (silent) Advance(int64) {}
func (silent) Status(string) {}
func (silent) Notice(string) {}
func (silent) Saved(string)  {}
func (silent) Done()         {}
