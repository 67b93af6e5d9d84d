package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"afmq/internal/demo"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compare"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/gate"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/recovery"
	"afmq/pkg/sensitivity"
)

// longJob is a job that reports progress. run writes its output, if it has one, to out.
type longJob struct {
	name    string
	run     func(ctx context.Context, out string, p progress.Reporter) error
	resumes string // what a notice says that it resumes from, as a pattern; empty if it does not resume
	saves   string // what it says that is saved
}

// longJobs returns the jobs of the program on a small model.
func longJobs(t *testing.T) []longJob {
	t.Helper()
	dir := t.TempDir()
	model, text := filepath.Join(dir, "model"), filepath.Join(dir, "text.jsonl")
	if err := demo.Extract(model); err != nil {
		t.Fatal(err)
	}
	pool := compute.NewPool(2)
	t.Cleanup(pool.Close)
	m, err := infer.Open(t.Context(), model, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	texts, err := m.SampleTexts(t.Context(), pool, 40, 64, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, s := range texts {
		fmt.Fprintf(&lines, "{\"text\": %q}\n", strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' || r == '\\' {
				return ' '
			}
			return r
		}, s))
	}
	if err := os.WriteFile(text, []byte(lines.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	art, artB := filepath.Join(dir, "art"), filepath.Join(dir, "art-2")
	for out, bits := range map[string]int{art: 4, artB: 2} {
		if _, err := quantize.Run(t.Context(), quantize.Options{Model: model, Out: out, Bits: bits, Pool: pool}); err != nil {
			t.Fatal(err)
		}
	}
	calibration := sensitivity.CalibrationOptions{Files: []string{text}, Tokens: 512, SeqLen: 64}
	score := func(method sensitivity.Method) func(ctx context.Context, out string, p progress.Reporter) error {
		return func(ctx context.Context, out string, p progress.Reporter) error {
			c := calibration
			if method != sensitivity.Fisher {
				c.Tokens = 64
			}
			_, err := sensitivity.Score(ctx, sensitivity.Options{Model: model, Out: out, Method: method, Calibration: c, Pool: pool, Progress: p})
			return err
		}
	}
	const modules, state = `\d+ of 28 modules`, `\.out\.afmq`
	return []longJob{
		{"quantize", func(ctx context.Context, out string, p progress.Reporter) error {
			_, err := quantize.Run(ctx, quantize.Options{Model: model, Out: out, Calibration: calibration, Pool: pool, Progress: p})
			return err
		}, `resuming from .*` + state + `: \d+ of 29 modules are done`, `\d+ of 29 modules in .*` + state},
		{"quantize to a target", func(ctx context.Context, out string, p progress.Reporter) error {
			_, err := quantize.Run(ctx, quantize.Options{Model: model, Out: out, Calibration: calibration, Pool: pool, Progress: p,
				Request: &sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 3.5}}})
			return err
		}, "", ""},
		{"sensitivity fisher", score(sensitivity.Fisher), "", ""},
		{"sensitivity kl", score(sensitivity.KL), `resuming from .*` + state + `: score modules: ` + modules + ` are done`, `the scores of ` + modules + ` in .*` + state},
		{"sensitivity hessian", score(sensitivity.Hessian), `resuming from .*` + state + `: score modules: ` + modules + ` are done`, `the scores of ` + modules + ` in .*` + state},
		{"sensitivity weight", score(sensitivity.Weight), `resuming from .*` + state + `: score modules: ` + modules + ` are done`, `the scores of ` + modules + ` in .*` + state},
		{"recover", func(ctx context.Context, out string, p progress.Reporter) error {
			_, err := recovery.Run(ctx, recovery.Options{Artifact: artB, Teacher: model, Data: []string{text}, Out: out, Ranks: []int{2},
				Tokens: 2048, SeqLen: 32, BatchTokens: 128, InitTokens: 256, Pool: pool, Progress: p})
			return err
		}, `resuming from .*` + state + `: \d+ of 16 steps are done`, `\d+ of 16 steps in .*` + state},
		{"tune", func(ctx context.Context, out string, p progress.Reporter) error {
			_, err := recovery.Tune(ctx, recovery.TuneOptions{Artifact: artB, Teacher: model, Data: []string{text}, Out: out,
				Tokens: 2048, SeqLen: 32, BatchTokens: 128, Pool: pool, Progress: p})
			return err
		}, `resuming from .*` + state + `: \d+ of 16 steps are done`, `\d+ of 16 steps in .*` + state},
		{"eval", func(ctx context.Context, _ string, p progress.Reporter) error {
			_, err := eval.Run(ctx, eval.Options{Model: art, Reference: model, Data: text, Pool: pool, Progress: p})
			return err
		}, "", ""},
		{"compare", func(ctx context.Context, _ string, p progress.Reporter) error {
			_, err := compare.Run(ctx, compare.Options{
				Models: []compare.Model{{Path: art}, {Path: artB}}, Reference: &compare.Model{Path: model}, Data: text, Ctx: 32, Pool: pool, Progress: p,
			})
			return err
		}, "", ""},
		{"compare one at a time", func(ctx context.Context, _ string, p progress.Reporter) error {
			_, err := compare.Run(ctx, compare.Options{
				Models: []compare.Model{{Path: art}, {Path: artB}}, Reference: &compare.Model{Path: model}, Data: text, Ctx: 32, OneAtATime: true, Pool: pool, Progress: p,
			})
			return err
		}, "", ""},
		{"gate", func(ctx context.Context, out string, p progress.Reporter) error {
			_, err := gate.Run(ctx, gate.Options{Artifact: art, Baseline: out, Data: text, Ctx: 32, Update: true, Pool: pool, Progress: p})
			return err
		}, "", ""},
		{"verify", func(ctx context.Context, _ string, p progress.Reporter) error {
			_, err := artifact.Verify(ctx, art, artifact.VerifyOptions{Pool: pool, Progress: p})
			return err
		}, "", ""},
		{"diff", func(ctx context.Context, _ string, p progress.Reporter) error {
			_, err := artifact.Diff(ctx, art, artB, artifact.DiffOptions{Pool: pool, Progress: p})
			return err
		}, "", ""},
		{"dequantize", func(ctx context.Context, out string, p progress.Reporter) error {
			_, err := quantize.Dequantize(ctx, quantize.DequantizeOptions{Artifact: art, Out: out, Pool: pool, Progress: p})
			return err
		}, "", ""},
		{"sample text", func(ctx context.Context, _ string, p progress.Reporter) error {
			_, err := m.SampleTexts(ctx, pool, 4, 32, 1, p)
			return err
		}, "", ""},
	}
}

// witness is a reporter that keeps what it is told, and calls at once with the n-th advance.
type witness struct {
	mu       sync.Mutex
	advances int
	n        int // 0 for never
	at       func()
	stages   []progress.Stage
	done     []int64 // work of each stage
	notices  []string
	saved    string
}

func (w *witness) Stage(s progress.Stage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stages, w.done = append(w.stages, s), append(w.done, s.Done)
}

func (w *witness) Advance(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advances++
	w.done[len(w.done)-1] += n
	if w.advances == w.n {
		w.at()
	}
}

func (w *witness) Status(string)      {}
func (w *witness) Notice(text string) { w.notices = append(w.notices, text) }
func (w *witness) Saved(text string)  { w.saved = text }
func (w *witness) Done()              {}

// mostInFlight is the number of items that quantize computes, hashes or writes at the same time:
// what a cancelled job may still report. The others report at most one item per thread.
const mostInFlight = 4

// Every job reports all the work that it announces, in numbered stages. Cancelled at any report, it
// starts no further item of work, returns the error of the context and leaves no output.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, j := range longJobs(t) {
		t.Run(j.name, func(t *testing.T) {
			whole := &witness{}
			if err := j.run(t.Context(), filepath.Join(t.TempDir(), "out"), whole); err != nil {
				t.Fatal(err)
			}
			for i, s := range whole.stages {
				if whole.done[i] != s.Work && s.Name != recovery.StageText && s.Name != infer.StageLoad && s.Name != artifact.StageHash {
					t.Errorf("stage %q reports %d of its work of %d", s.Name, whole.done[i], s.Work)
				}
				if s.Number != i+1 || s.Of != len(whole.stages) {
					t.Errorf("stage %d is called %d of %d: %s", i+1, s.Number, s.Of, s.Name)
				}
			}
			for _, share := range []float64{0, 0.5, 0.95} {
				n := 1 + int(share*float64(whole.advances-1))
				ctx, cancel := context.WithCancel(t.Context())
				out := filepath.Join(t.TempDir(), "out")
				w := &witness{n: n, at: cancel}
				if err := j.run(ctx, out, w); !errors.Is(err, context.Canceled) {
					t.Errorf("cancelled at report %d of %d: %v", n, whole.advances, err)
				}
				if more := w.advances - n; more > mostInFlight {
					t.Errorf("cancelled at report %d of %d: %d more reports", n, whole.advances, more)
				}
				if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("cancelled at report %d of %d: the output is there (%v)", n, whole.advances, err)
				}
				cancel()
			}
		})
	}
}

// A job that was cancelled says what it saved. The same job then says what it resumes from, and its
// stage starts at the share that is done.
func TestResumedProgress(t *testing.T) {
	t.Parallel()
	for _, j := range longJobs(t) {
		if j.resumes == "" {
			continue
		}
		t.Run(j.name, func(t *testing.T) {
			whole := &witness{}
			if err := j.run(t.Context(), filepath.Join(t.TempDir(), "out"), whole); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := filepath.Join(t.TempDir(), "out")
			first := &witness{n: whole.advances * 3 / 4, at: cancel}
			if err := j.run(ctx, out, first); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if ok, _ := regexp.MatchString("^"+j.saves+"$", first.saved); !ok {
				t.Errorf("the cancelled job says that it saved %q", first.saved)
			}
			second := &witness{}
			if err := j.run(t.Context(), out, second); err != nil {
				t.Fatal(err)
			}
			if ok, _ := regexp.MatchString("^"+j.resumes+"$", strings.Join(second.notices, "\n")); !ok {
				t.Errorf("the job that resumes says %q", second.notices)
			}
			begun := 0
			for i, s := range second.stages {
				if s.Done > 0 && s.Done < s.Work {
					begun++
					if second.done[i] != s.Work {
						t.Errorf("stage %q reports %d of its work of %d", s.Name, second.done[i], s.Work)
					}
				}
			}
			if begun != 1 {
				t.Errorf("%d stages start in the middle: %+v", begun, second.stages)
			}
		})
	}
}

// A person who interrupts a command reads what it saved, or that it saved nothing.
func TestInterruptedMessage(t *testing.T) {
	for saved, want := range map[string]string{
		"12 of 56 modules in .out.afmq": "afmq: stopped by interrupt\nhint: saved: 12 of 56 modules in .out.afmq; run the same command again to continue\n",
		"":                              "afmq: stopped by interrupt\nhint: nothing was saved; the same command starts from the beginning\n",
	} {
		var stdout, stderr bytes.Buffer
		a := &app{stdout: &stdout, stderr: &stderr, started: true, reporter: newReporter(&stderr, false)}
		a.reporter.Saved(saved)
		if code := a.interrupted(caught{syscall.SIGINT}); code != 130 {
			t.Errorf("exit code %d", code)
		}
		if stderr.String() != want {
			t.Errorf("wrote %q, want %q", stderr.String(), want)
		}
	}
}

// A run that is interrupted before it reads the state of an earlier one does not say that the same
// command starts from the beginning.
func TestInterruptedBeforeTheState(t *testing.T) {
	out := filepath.Join(t.TempDir(), "art")
	dir, err := stage.Open(out, []byte(`{"job": "quantize/v1"}`), stage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	journal, err := dir.Journal()
	if err != nil {
		t.Fatal(err)
	}
	if err := journal.Append(1); err != nil {
		t.Fatal(err)
	}
	dir.Keep()
	var stdout, stderr bytes.Buffer
	a := &app{stdout: &stdout, stderr: &stderr, started: true, reporter: newReporter(&stderr, false)}
	a.command = &cobra.Command{}
	a.command.Flags().String("out", out, "")
	if code := a.interrupted(caught{syscall.SIGINT}); code != 130 {
		t.Errorf("exit code %d", code)
	}
	want := "hint: this run saved nothing; " + filepath.Join(filepath.Dir(out), ".art.afmq") + " has the state of an earlier run; run the same command again to continue\n"
	if !strings.HasSuffix(stderr.String(), want) {
		t.Errorf("wrote %q, want %q", stderr.String(), want)
	}
}

// An interrupted demo leaves nothing behind, so that the same command can be run again.
func TestInterruptedDemo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := filepath.Join(t.TempDir(), "demo")
	a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, quiet: true}
	a.reporter = newReporter(a.stderr, a.quiet)
	defer a.close()
	if err := runDemo(ctx, a, out); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left (%v)", out, err)
	}
}
