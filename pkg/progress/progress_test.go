package progress_test

import (
	"fmt"
	"slices"
	"testing"

	"afmq/pkg/progress"
)

// recorder keeps the stages that it is told of.
type recorder struct {
	progress.Reporter
	stages []string
}

func (r *recorder) Stage(s progress.Stage) {
	r.stages = append(r.stages, fmt.Sprintf("%d/%d %s", s.Number, s.Of, s.Name))
}

// A job numbers its stages, also those of the jobs inside it; stages that are left out count as
// passed, and those that were not announced have no number.
func TestBegin(t *testing.T) {
	r := &recorder{Reporter: progress.Silent}
	outer := progress.Begin(r, "read", "score", "train", "score", "write")
	inner := progress.Begin(outer, "something", "else")
	for i, name := range []string{"score", "check", "score", "write"} {
		p := outer
		if i == 2 {
			p = inner
		}
		p.Stage(progress.Stage{Name: name})
	}
	want := []string{"2/5 score", "0/0 check", "4/5 score", "5/5 write"}
	if !slices.Equal(r.stages, want) {
		t.Errorf("stages %q, want %q", r.stages, want)
	}
}

// Begin without a Reporter gives one that ignores all reports.
func TestBeginNil(t *testing.T) {
	p := progress.Begin(nil, "one")
	p.Stage(progress.Stage{Name: "one", Work: 1})
	p.Advance(1)
	p.Status("s")
	p.Notice("n")
	p.Saved("s")
	p.Done()
}
