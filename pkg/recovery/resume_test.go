package recovery

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// TestResume cancels a run after every step and more than once, before the look at the
// held-out text that follows each and after it, and holds the result to that of a run that
// was left alone.
func TestResume(t *testing.T) {
	for _, validation := range []int{16, 200} { // tokens: a look after every step, or none but the last
		t.Run(strconv.Itoa(validation), func(t *testing.T) { resume(t, validation) })
	}
}

func resume(t *testing.T, validation int) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Validation = validation
	mustRun(t, pool, o)
	want := contents(t, o.Out)
	for n := 1; n < 6; n++ {
		c := o
		c.Out = filepath.Join(t.TempDir(), "out")
		// A step whose look was cut off is made again, so every run has to make one more.
		for made := 0; made < 5; made += n {
			ctx, cancel := context.WithCancel(bg)
			steps := min(n, 5-made)
			if validation == 16 && made+steps < 5 {
				steps++
			}
			c.Progress = &stopAt{Reporter: progress.Silent, steps: steps, cancel: cancel}
			if _, err := runOn(ctx, pool, c); !errors.Is(err, context.Canceled) {
				t.Fatalf("cancelled after %d: %v", n, err)
			}
			cancel()
			if _, err := os.Stat(c.Out); err == nil {
				t.Fatal("the output is there after a cancelled run")
			}
		}
		c.Progress = nil
		r := mustRun(t, pool, c)
		if want := int64(5); validation == 16 && r.ResumedSteps != want-1 || validation != 16 && r.ResumedSteps != want {
			t.Errorf("in steps of %d: %d steps were taken over", n, r.ResumedSteps)
		}
		sameContents(t, contents(t, c.Out), want)
	}
}

// TestResumeRefuses checks that the state of another job is left alone, with the
// difference named, and that a state that somebody damaged is not trained on.
func TestResumeRefuses(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	ctx, cancel := context.WithCancel(bg)
	o.Progress = &stopAt{Reporter: progress.Silent, steps: 2, cancel: cancel}
	if _, err := runOn(ctx, pool, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	o.Progress = nil
	other := o
	other.Rate = 1e-4
	_, err := runOn(bg, pool, other)
	wantFault(t, err, fault.Input, "--rate was 0.002 and is now 0.0001")
	other = o
	other.Ranks = []int{3}
	_, err = runOn(bg, pool, other)
	wantFault(t, err, fault.Input, "--rank was [2] and is now [3]")

	state := filepath.Join(filepath.Dir(o.Out), ".out.afmq", "state", stateFile)
	data, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, []byte(strings.Replace(string(data), "rank-2.weights", "rank-9.weights", 1)), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = runOn(bg, pool, o)
	wantFault(t, err, fault.Input, "rank-2.weights")
	// One digit of a score, and of a metric.
	damage := func(path, number string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		i := strings.Index(string(text), number)
		if i < 0 {
			t.Fatalf("%s does not hold %s", path, number)
		}
		edited := slices.Clone(text)
		i += len(number)
		edited[i] = '0' + (edited[i]-'0'+1)%10
		if err := os.WriteFile(path, edited, 0o666); err != nil {
			t.Fatal(err)
		}
		_, err = runOn(bg, pool, o)
		wantFault(t, err, fault.Input, "was changed after the run saved it")
		if err := os.WriteFile(path, text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(state, data, 0o666); err != nil {
		t.Fatal(err)
	}
	damage(state, `"kl\":0.`)
	damage(filepath.Join(filepath.Dir(o.Out), ".out.afmq", "journal.jsonl"), `"loss":0.`)
	// One bit of one value.
	flipLastByte(t, state)
	_, err = runOn(bg, pool, o)
	wantFault(t, err, fault.Input, "was changed after the run saved it")
	if err := os.WriteFile(state, data, 0o666); err != nil {
		t.Fatal(err)
	}
	mustRun(t, pool, o)
}
