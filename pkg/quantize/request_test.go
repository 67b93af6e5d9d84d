package quantize

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/sensitivity"
)

// wantChoice checks what the manifest in dir says about the choice of the widths, and removes it.
func wantChoice(t *testing.T, dir string, want artifact.ChoiceRecord) {
	t.Helper()
	m, err := artifact.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&want, m.Plan.Choice); d != "" {
		t.Error(d)
	}
	m.Plan.Choice = nil
	manifest, digest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{artifact.ManifestFile: manifest, artifact.ManifestDigestFile: digest} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	// The model card has the command, which is another one.
	if err := os.Remove(filepath.Join(dir, artifact.CardFile)); err != nil {
		t.Fatal(err)
	}
}

// A request gives the bytes of scoring, planning and quantizing separately, but for what the
// manifest says about the choice of the widths, even if it is interrupted in any of them.
func TestRequest(t *testing.T) {
	opts := Options{
		Model: tinyModel, Calibration: calibration(t), Compensate: artifact.NoCompensation,
		Request: &sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 3.4}},
	}
	want, res := run(t, newPool(t, 2), opts)
	if res.Plan == nil || res.BPW.Projections > 3.4 || res.BPW.Projections < 3.1 || res.BPW != res.Plan.BPW || res.Bytes != res.Plan.Bytes {
		t.Fatalf("%+v", res)
	}
	s, err := sensitivity.Score(bg, sensitivity.Options{Model: tinyModel, Calibration: opts.Calibration, ToolVersion: "test"})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := sensitivity.MakePlan(s.Scores, sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 3.4}})
	if err != nil {
		t.Fatal(err)
	}
	byPlan, _ := run(t, newPool(t, 2), Options{Model: tinyModel, Plan: plan, PlanFile: "plan.json", Calibration: opts.Calibration, Compensate: artifact.NoCompensation})
	wantChoice(t, want, artifact.ChoiceRecord{By: artifact.ByTarget, Method: string(sensitivity.DefaultMethod), BPW: 3.4, Widths: sensitivity.DefaultBits()})
	wantChoice(t, byPlan, artifact.ChoiceRecord{By: artifact.ByPlan})
	sameContents(t, byPlan, want)

	want, _ = run(t, newPool(t, 2), opts)
	for _, n := range []int{1, 20} {
		opts.Out = filepath.Join(t.TempDir(), "out")
		interrupt(t, opts, n)
		run(t, newPool(t, 1), opts)
		sameContents(t, opts.Out, want)
	}
	// Interrupt the scoring.
	opts.Out = filepath.Join(t.TempDir(), "out")
	opts.Method, opts.Compensate = sensitivity.KL, artifact.NoCompensation
	opts.Calibration.Tokens = 128
	ctx, cancel := context.WithCancel(bg)
	stopped := opts
	stopped.ToolVersion, stopped.Progress = "test", &stageHook{Reporter: progress.Silent, stage: sensitivity.StageScore, left: 5, at: cancel}
	if _, err := runOn(ctx, newPool(t, 2), stopped); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := os.Stat(stateDir(opts.Out)); err != nil {
		t.Fatal(err)
	}
	run(t, newPool(t, 2), opts)
	whole := opts
	whole.Out = ""
	want, _ = run(t, newPool(t, 2), whole)
	sameContents(t, opts.Out, want)
	wantOnly(t, opts.Out)
}

// stageHook calls at when a stage has saved left times.
type stageHook struct {
	progress.Reporter
	stage string
	in    bool
	left  int
	at    func()
}

func TestRequestRefuses(t *testing.T) {
	text := calibration(t)
	target := func(bpw float64) *sensitivity.PlanOptions {
		return &sensitivity.PlanOptions{Target: sensitivity.Target{BPW: bpw}}
	}
	for name, c := range map[string]struct {
		o     Options
		kind  fault.Kind
		parts []string
	}{
		// The error comes before the text is read: it does not exist.
		"too few bits": {Options{Request: target(1), Calibration: sensitivity.CalibrationOptions{Files: []string{"/nowhere"}}, NoRowScale: true}, fault.Infeasible, []string{"cannot be reached", "2.0"}},
		"no text":      {Options{Request: target(3)}, fault.Usage, []string{"calibration text"}},
		"both":         {Options{Request: target(3), Plan: &sensitivity.Plan{}, Calibration: text}, fault.Usage, []string{"exclude"}},
		"gptq alone":   {Options{Compensate: artifact.GPTQ}, fault.Usage, []string{"gptq"}},
		"no such way":  {Options{Compensate: "magic", Calibration: text}, fault.Usage, []string{"magic"}},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			c.o.Model, c.o.Out = tinyModel, filepath.Join(parent, "out")
			_, err := runOn(bg, newPool(t, 1), c.o)
			wantFault(t, err, c.kind, c.parts...)
			wantEmpty(t, parent)
		})
	}
}

func (h *stageHook) Stage(s progress.Stage) { h.in = s.Name == h.stage }

func (h *stageHook) Saved(string) {
	if h.in {
		if h.left--; h.left == 0 {
			h.at()
		}
	}
}
