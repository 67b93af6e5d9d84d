package quantize

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

const (
	story = "The captain stood at the door of the house and looked out over the sea. There was no ship to be seen, " +
		"and the wind had fallen. \"We must wait,\" said he, \"until the morning.\" His wife answered nothing, but turned away. "
	other = "In the winter the two brothers lived in the town, and in the summer they went up to the hills with the sheep. " +
		"Nobody knew who their father had been. \"It is no matter,\" the elder would say, \"we have the house and the land.\" "
)

func textFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	writeFile(t, path, []byte(text))
	return path
}

// calibration is some 1000 tokens for the tiny model.
func calibration(t testing.TB) sensitivity.CalibrationOptions {
	return sensitivity.CalibrationOptions{Files: []string{textFile(t, "calib.txt", strings.Repeat(story, 20))}, SeqLen: 64, Tokens: 1024}
}

// sampled is a file of text that the tiny model wrote.
func sampled(t *testing.T) string {
	t.Helper()
	pool := newPool(t, 2)
	m, err := infer.Open(bg, tinyModel, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	texts, err := m.SampleTexts(bg, pool, 64, 64, 1)
	if err != nil {
		t.Fatal(err)
	}
	return textFile(t, "sampled.txt", strings.Join(texts, "\n"))
}

// divergence is the mean KL of an artifact on a text that it was not calibrated on.
func divergence(t *testing.T, out, model string) float64 {
	t.Helper()
	pool := newPool(t, 2)
	a, err := infer.Open(bg, out, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	b, err := infer.Open(bg, model, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	c, err := eval.EncodeTexts("text", []string{strings.Repeat(other, 6)}, b.Tokenizer, 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := eval.Score(bg, a, c, eval.ScoreOptions{Ctx: 64, Reference: b, Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	return e.KL.Mean
}

// Compensation lowers the divergence on other text, the manifest says what was done, the
// artifact is whole, and the bytes depend on neither threads nor interruptions.
func TestCompensation(t *testing.T) {
	opts := Options{Model: tinyModel, Bits: 2, RowScale: true, Overrides: []sensitivity.Override{{Pattern: `layers\.1\..*up_proj`, Bits: 16}}}
	plain, _ := run(t, newPool(t, 2), opts)
	opts.Calibration = calibration(t)
	opts.Calibration.Files, opts.Calibration.Tokens = []string{sampled(t)}, 3072
	out, res := run(t, newPool(t, 2), opts)
	before, after := divergence(t, plain, tinyModel), divergence(t, out, tinyModel)
	t.Logf("divergence %.4f, compensated %.4f", before, after)
	if after > 0.75*before {
		t.Errorf("divergence %v, plain %v", after, before)
	}
	m, err := artifact.ReadManifest(out)
	if err != nil {
		t.Fatal(err)
	}
	if m.Plan.Compensation != artifact.GPTQ || m.Calibration == nil || m.Calibration.Tokens != 3072 || len(m.Calibration.Passages) != 48*2 {
		t.Errorf("plan %+v, calibration %+v", m.Plan.Compensation, m.Calibration)
	}
	for _, l := range res.Layers {
		compensated := l.Form == artifact.Palette
		if compensated != (l.OutputError > 0) || l.OutputError >= 1 || l.Warning != "" {
			t.Errorf("%+v", l)
		}
	}
	if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{Pool: newPool(t, 2)}); err != nil {
		t.Error(err)
	}
	opts.Out = filepath.Join(t.TempDir(), "again")
	one, _ := run(t, newPool(t, 1), opts)
	sameContents(t, one, out)
	for _, n := range []int{1, 9, 23, 46} {
		opts.Out = filepath.Join(t.TempDir(), "out")
		interrupt(t, opts, n)
		run(t, newPool(t, 3), opts)
		sameContents(t, opts.Out, out)
	}
}

// A module whose inputs say nothing is palettized as it is, and the report says so.
func TestCompensationFallsBack(t *testing.T) {
	s := newSynthetic(safetensors.F32, true)
	norm := s.tensor("model.layers.1.post_attention_layernorm.weight")
	norm.data = make([]byte, len(norm.data)) // gate and up of layer 1 see zeros, and so does down
	opts := Options{Model: s.write(t, 1), Calibration: calibration(t)}
	opts.Calibration.SeqLen = 32
	out, res := run(t, newPool(t, 2), opts)
	for _, l := range res.Layers {
		dead := strings.HasPrefix(l.Name, "model.layers.1.mlp")
		if dead != (l.Warning != "") || dead && (!strings.Contains(l.Warning, "not compensated") || l.OutputError != 0) {
			t.Errorf("%+v", l)
		}
	}
	if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{Pool: newPool(t, 1)}); err != nil {
		t.Error(err)
	}
	plain, _ := run(t, newPool(t, 1), Options{Model: opts.Model})
	a, b := openTensors(t, out), openTensors(t, plain)
	name := "model.layers.1.mlp.gate_proj.weight.indices"
	if string(a[name]) != string(b[name]) {
		t.Error("a module that could not be compensated is not the plain palette")
	}
}

func openTensors(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(dir, artifact.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]byte{}
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		out[name] = append([]byte(nil), x.Bytes()...)
	}
	return out
}

// A palettized head, biases and an untied embedding go through the walk too.
func TestCompensationOfHeadAndBiases(t *testing.T) {
	for _, o := range [][]sensitivity.Override{nil, {{Pattern: "lm_head", Bits: 4}}} {
		opts := Options{Model: newSynthetic(safetensors.BF16, true).write(t, 2), Overrides: o, Calibration: calibration(t)}
		opts.Calibration.SeqLen = 32
		out, res := run(t, newPool(t, 2), opts)
		if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{Pool: newPool(t, 1)}); err != nil {
			t.Error(err)
		}
		head := res.Layers[len(res.Layers)-1]
		if head.Name != "lm_head" || (head.OutputError > 0) != (o != nil) {
			t.Errorf("%+v", head)
		}
	}
}

// One command does what scoring, planning and quantizing do one after another, also when
// it is interrupted in any of them.
func TestRequest(t *testing.T) {
	opts := Options{
		Model: tinyModel, RowScale: true, Calibration: calibration(t), Compensate: artifact.NoCompensation,
		Request: &sensitivity.Request{Target: sensitivity.Target{BPW: 3.4}},
	}
	want, res := run(t, newPool(t, 2), opts)
	if res.Plan == nil || res.BPW.Projections > 3.4 || res.BPW.Projections < 3.1 || res.BPW != res.Plan.BPW || res.Bytes != res.Plan.Bytes {
		t.Fatalf("%+v", res)
	}
	path := filepath.Join(t.TempDir(), "scores.json")
	s, _, err := sensitivity.Score(bg, newPool(t, 1), path, false, sensitivity.ScoreOptions{
		Model: tinyModel, GroupRows: 16, RowScale: true, Calibration: opts.Calibration, ToolVersion: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	_, shape, err := sensitivity.ReadScores(path)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := sensitivity.MakePlan(s, shape, sensitivity.Request{Target: sensitivity.Target{BPW: 3.4}})
	if err != nil {
		t.Fatal(err)
	}
	byPlan, _ := run(t, newPool(t, 2), Options{Model: tinyModel, Plan: plan, PlanFile: "plan.json", Calibration: opts.Calibration, Compensate: artifact.NoCompensation})
	sameContents(t, byPlan, want)

	for _, n := range []int{1, 20} {
		opts.Out = filepath.Join(t.TempDir(), "out")
		interrupt(t, opts, n)
		run(t, newPool(t, 1), opts)
		sameContents(t, opts.Out, want)
	}
	// In the scores.
	opts.Out = filepath.Join(t.TempDir(), "out")
	opts.Method, opts.Compensate = sensitivity.KL, artifact.NoCompensation
	opts.Calibration.Tokens = 128
	ctx, cancel := context.WithCancel(bg)
	stopped := opts
	stopped.ToolVersion, stopped.Progress = "test", &stageHook{stage: "score by kl", left: 5, at: cancel}
	if _, err := Run(ctx, newPool(t, 2), stopped); !errors.Is(err, context.Canceled) {
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

// stageHook calls at when a stage has advanced left times.
type stageHook struct {
	stage string
	in    bool
	left  int
	at    func()
}

func (h *stageHook) Stage(name string, _ int64, _ string) { h.in = name == h.stage }
func (h *stageHook) Done()                                {}
func (h *stageHook) Status(string)                        {}
func (h *stageHook) Advance(int64) {
	if h.in {
		if h.left--; h.left == 0 {
			h.at()
		}
	}
}

func TestRequestRefuses(t *testing.T) {
	text := calibration(t)
	target := func(bpw float64) *sensitivity.Request {
		return &sensitivity.Request{Target: sensitivity.Target{BPW: bpw}}
	}
	for name, c := range map[string]struct {
		o     Options
		kind  fault.Kind
		parts []string
	}{
		// Before any calibration: the text does not even exist.
		"too few bits": {Options{Request: target(1), Calibration: sensitivity.CalibrationOptions{Files: []string{"/nowhere"}}}, fault.Infeasible, []string{"cannot be reached", "2.0"}},
		"no text":      {Options{Request: target(3)}, fault.Usage, []string{"calibration text"}},
		"both":         {Options{Request: target(3), Plan: &sensitivity.Plan{}, Calibration: text}, fault.Usage, []string{"exclude"}},
		"gptq alone":   {Options{Compensate: artifact.GPTQ}, fault.Usage, []string{"gptq"}},
		"no such way":  {Options{Compensate: "magic", Calibration: text}, fault.Usage, []string{"magic"}},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			c.o.Model, c.o.Out = tinyModel, filepath.Join(parent, "out")
			_, err := Run(bg, newPool(t, 1), c.o)
			wantFault(t, err, c.kind, c.parts...)
			wantEmpty(t, parent)
		})
	}
}

// A weight that is no number is reported where it stands.
func TestCompensationOfBadWeights(t *testing.T) {
	s := newSynthetic(safetensors.F32, true)
	x := s.tensor("model.layers.0.self_attn.k_proj.weight")
	copy(x.data[4*(3*synHidden+5):], float32Bytes([]float32{float32(math.NaN())}))
	opts := Options{Model: s.write(t, 1), Calibration: calibration(t), Out: filepath.Join(t.TempDir(), "out")}
	opts.Calibration.SeqLen = 32
	_, err := Run(bg, newPool(t, 2), opts)
	wantFault(t, err, fault.Input, "k_proj.weight", "NaN")
	if !strings.Contains(err.Error(), "77") && !strings.Contains(err.Error(), "row 3, column 5") {
		t.Errorf("%v: not where it stands", err)
	}
	wantEmpty(t, filepath.Dir(opts.Out))
}
