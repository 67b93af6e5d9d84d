package recovery

import (
	"context"
	"errors"
	"math"
	"os"
	"testing"

	"afmq/internal/stage"
	"afmq/pkg/progress"
)

// afterAdvances calls f at the n-th advance.
type afterAdvances struct {
	progress.Reporter
	made, n int
	f       func()
}

func (a *afterAdvances) Advance(int64) {
	if a.made++; a.made == a.n {
		a.f()
	}
}

// A step that diverges after some of the students were updated is not saved, even if the run is
// cancelled at the same time: a run that resumed from it would make the step twice.
func TestDivergedStepIsNotSaved(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Ranks, o.Init = []int{2, 4}, InitZero
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	o.Progress = progress.Silent
	r := &run{pool: pool, opts: &o}
	if err := r.open(bg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	tr := newTrainer(pool.WithContext(ctx), &o, r.data, r.base, r.teacher, r.students)
	if err := tr.initialize(ctx, nil, true); err != nil {
		t.Fatal(err)
	}
	var err error
	if tr.dir, err = stage.Open(o.Out, []byte("{}"), stage.Options{}); err != nil {
		t.Fatal(err)
	}
	for i, s := range tr.students {
		s.pack(pool, s.state().weights, o.stored())
		tr.Best[i].weights = s.state().weights
	}
	count := &afterAdvances{Reporter: progress.Silent}
	o.Progress = count
	if err := tr.step(); err != nil { // how many advances a step has
		t.Fatal(err)
	}
	for i := range tr.students[1].state().weights {
		tr.students[1].state().weights[i] = float32(math.NaN())
	}
	o.Progress = &afterAdvances{Reporter: progress.Silent, n: count.made, f: cancel}
	var bad *diverged
	if err := tr.run(ctx); !errors.As(err, &bad) || ctx.Err() == nil {
		t.Fatalf("%v, and the context ended with %v", err, ctx.Err())
	}
	if _, err := os.Stat(tr.dir.StatePath(stateFile)); err == nil {
		t.Errorf("the state of step %d was saved", tr.Step)
	}
}
