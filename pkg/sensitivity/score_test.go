package sensitivity

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// tinyModel is the trained checkpoint that the project embeds.
const tinyModel = "../../internal/demo/model"

var bg = context.Background()

func newPool(t testing.TB, threads int) *compute.Pool {
	p := compute.NewPool(threads)
	t.Cleanup(p.Close)
	return p
}

// story is a text that the tiny model finds neither easy nor nonsense.
var story = strings.Repeat("The captain stood at the door of the house and looked out over the sea. "+
	"There was no ship to be seen, and the wind had fallen. \"We must wait,\" said he, \"until the morning.\" "+
	"His wife, who had come to the window, answered nothing, but turned away and began to lay the table. "+
	"In the village they said that he had once been rich, and that he had lost all in a single night. ", 6)

func textFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// options score the tiny model on some 500 tokens.
func options(t testing.TB, method Method, bits ...int) ScoreOptions {
	o := ScoreOptions{Model: tinyModel, Method: method, Bits: bits, GroupRows: 16, RowScale: true, ToolVersion: "test"}
	if method.NeedsText() {
		o.Calibration = CalibrationOptions{Files: []string{textFile(t, "story.txt", story)}, SeqLen: 64, Tokens: 512}
	}
	return o
}

func score(t testing.TB, threads int, o ScoreOptions) *Scores {
	t.Helper()
	s, _, err := Score(bg, newPool(t, threads), filepath.Join(t.TempDir(), "scores.json"), false, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFisherPredictsKL holds the prediction to the measurement in rank and in size.
func TestFisherPredictsKL(t *testing.T) {
	fisher := score(t, 2, options(t, Fisher, 2, 4))
	kl := score(t, 2, options(t, KL, 2, 4))
	if len(fisher.Modules) != 28 || fisher.Modules[0].Name != "model.layers.0.self_attn.q_proj" {
		t.Fatalf("%d modules, the first %q", len(fisher.Modules), fisher.Modules[0].Name)
	}
	for o, bits := range fisher.Bits {
		var a, b []float64
		sumA, sumB := 0.0, 0.0
		for i := range fisher.Modules {
			a, b = append(a, fisher.Modules[i].Costs[o]), append(b, kl.Modules[i].Costs[o])
			sumA, sumB = sumA+a[i], sumB+b[i]
		}
		rho := spearman(a, b)
		t.Logf("%d bits: Spearman %.3f, sum %.3f of the measured", bits, rho, sumA/sumB)
		if rho < 0.9 || sumA < 0.6*sumB || sumA > 1.6*sumB {
			t.Errorf("%d bits: Spearman %v, sum %v of the measured", bits, rho, sumA/sumB)
		}
	}
}

// TestKLIsMeasured holds a score to a full run of both models.
func TestKLIsMeasured(t *testing.T) {
	pool := newPool(t, 2)
	o := options(t, KL, 2)
	s := score(t, 2, o)
	m, err := infer.Open(bg, tinyModel, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	text, err := ReadCalibration(o.Calibration, m.Tokenizer, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 5, 17, 27} {
		spec := projectionSpecs(m.Config)[i]
		w := m.Blocks[spec.Layer].Linear(spec.Kind).Weight
		plain := make([]float32, w.Rows()*w.Cols())
		for r := range w.Rows() {
			w.Row(plain[r*w.Cols():(r+1)*w.Cols()], r)
		}
		p, _, err := palettize.Palettize(pool, palettize.Source{F32: plain}, w.Rows(), w.Cols(), palettize.Options{Bits: 2, RowScale: true})
		if err != nil {
			t.Fatal(err)
		}
		changed := *m
		changed.Blocks = slices.Clone(m.Blocks)
		changed.SetMatrix(spec, pack(p))
		sum := 0.0
		for _, ids := range text.Sequences {
			a := allLogits(m, pool, ids)
			b := allLogits(&changed, pool, ids)
			for k := range ids {
				x, y := a[k*m.Config.VocabSize:][:m.Config.VocabSize], b[k*m.Config.VocabSize:][:m.Config.VocabSize]
				sum += kernel.KL(x, y, kernel.LogSumExp(x), kernel.LogSumExp(y))
			}
		}
		want := sum / float64(text.Tokens())
		if got := s.Modules[i].Costs[0]; math.Abs(got-want) > 1e-5*want {
			t.Errorf("%s: %v, measured %v", s.Modules[i].Name, got, want)
		}
	}
}

func projectionSpecs(cfg *model.Config) (out []model.TensorSpec) {
	for _, s := range cfg.Tensors() {
		if s.Role == model.Projection {
			out = append(out, s)
		}
	}
	return out
}

func allLogits(m *infer.Model, pool *compute.Pool, ids []int32) []float32 {
	r := m.NewRunner(pool)
	out := make([]float32, len(ids)*m.Config.VocabSize)
	r.Logits(out, r.Forward([]infer.Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}}), len(ids))
	return out
}

// TestErrorsOfWeightsAndOutputs holds the two plain methods to their definitions.
func TestErrorsOfWeightsAndOutputs(t *testing.T) {
	pool := newPool(t, 2)
	weight := score(t, 2, options(t, Weight, 3))
	o := options(t, Hessian, 3)
	hessian := score(t, 1, o)
	m, err := infer.Open(bg, tinyModel, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	text, err := ReadCalibration(o.Calibration, m.Tokenizer, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	ckpt, err := safetensors.OpenCheckpoint(tinyModel)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	batch := []infer.Segment{}
	for _, s := range text.Sequences {
		batch = append(batch, infer.Segment{Cache: m.NewCache(len(s)), Tokens: s})
	}
	r, tape := m.NewRunner(pool), infer.NewTape(infer.TapeOptions{Outputs: true})
	h := r.ForwardTape(batch, tape)
	seen := 0
	r.Backward(batch, tape, make([]float32, len(h)), func(p infer.Projected) {
		i := slices.IndexFunc(projectionSpecs(m.Config), func(s model.TensorSpec) bool { return s.Layer == p.Layer && s.Kind == p.Kind })
		spec := projectionSpecs(m.Config)[i]
		ts, _ := ckpt.Tensor(spec.Name)
		w := make([]float32, ts.NumElements())
		if err := ts.Float32(w, 0); err != nil {
			t.Fatal(err)
		}
		q, report, err := palettize.Palettize(pool, palettize.Source{F32: w}, spec.Shape[0], spec.Shape[1], palettize.Options{Bits: 3, RowScale: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := weight.Modules[i].Costs[0]; math.Abs(got-report.SquaredError) > 1e-6*got {
			t.Errorf("weight of %s: %v, want %v", spec.Name, got, report.SquaredError)
		}
		y := make([]float32, p.N*spec.Shape[0])
		pool.MulT(y, p.X, p.N, pack(q))
		sum := 0.0
		for k := range y {
			d := float64(y[k]) - float64(p.Y[k])
			sum += d * d
		}
		if got, want := hessian.Modules[i].Costs[0], sum/float64(text.Tokens()); math.Abs(got-want) > 1e-4*want {
			t.Errorf("hessian of %s: %v, want %v", spec.Name, got, want)
		}
		seen++
	})
	if seen != len(weight.Modules) || weight.Calibration != nil || hessian.Calibration == nil {
		t.Errorf("%d modules seen; calibration %v, %v", seen, weight.Calibration, hessian.Calibration)
	}
}

// stopAfter cancels after n units.
type stopAfter struct {
	n      int
	cancel context.CancelFunc
}

func (s *stopAfter) Stage(string, int64, string) {}
func (s *stopAfter) Done()                       {}
func (s *stopAfter) Status(string)               {}
func (s *stopAfter) Advance(int64) {
	if s.n--; s.n == 0 {
		s.cancel()
	}
}

// TestScoresResume: whatever the threads and wherever a run is interrupted, the file is
// the same.
func TestScoresResume(t *testing.T) {
	for _, method := range []Method{Fisher, KL, Hessian, Weight} {
		o := options(t, method, 2, 8)
		o.Calibration.Tokens, o.Calibration.SeqLen = 256, 64
		units := 28
		if method == Fisher {
			units = 2
			o.Calibration.Tokens, o.Calibration.SeqLen = 2560, 512 // two batches
			o.Calibration.Files = []string{textFile(t, "long.txt", strings.Repeat(story, 5))}
			o.Samples = 2
		}
		want, err := score(t, 1, o).Encode()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, units / 2} {
			out := filepath.Join(t.TempDir(), "scores.json")
			ctx, cancel := context.WithCancel(bg)
			stopped := o
			stopped.Progress = &stopAfter{n, cancel}
			_, _, err := Score(ctx, newPool(t, 3), out, false, stopped)
			cancel()
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("%s, stopped after %d: %v", method, n, err)
			}
			if method == Weight { // another job is refused and changes nothing
				other := o
				other.Bits = []int{2, 4}
				_, _, err := Score(bg, newPool(t, 1), out, false, other)
				wantFault(t, err, fault.Input, "another job", "bits")
			}
			_, timing, err := Score(bg, newPool(t, 2), out, false, o)
			if err != nil {
				t.Fatal(err)
			}
			if timing.ResumedUnits != n {
				t.Errorf("%s: %d units taken over, want %d", method, timing.ResumedUnits, n)
			}
			got, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s, stopped after %d: other scores", method, n)
			}
			if entries, _ := os.ReadDir(filepath.Dir(out)); len(entries) != 1 {
				t.Errorf("%s: %d files are left", method, len(entries))
			}
		}
	}
}

func TestValidate(t *testing.T) {
	o := options(t, Fisher, 2)
	o.Validate = 6
	s := score(t, 2, o)
	v := s.Validation
	if v == nil || len(v.Modules) != 6 || len(v.ByBits) != 1 {
		t.Fatalf("%+v", v)
	}
	kl := score(t, 2, options(t, KL, 2))
	for _, m := range v.Modules {
		i := slices.IndexFunc(kl.Modules, func(x ModuleScore) bool { return x.Name == m.Name })
		if want := kl.Modules[i].Costs; !slices.Equal(m.Measured, want) {
			t.Errorf("%s: measured %v, the method kl has %v", m.Name, m.Measured, want)
		}
	}
	if b := v.ByBits[0]; b.Spearman < 0.5 || b.Spearman > 1 || b.Ratio < 0.4 || b.Ratio > 2.5 {
		t.Errorf("%+v", b)
	}
}

func TestSpearman(t *testing.T) {
	// By hand: ranks 1 2 3 4 and 2 1 4 3: 1 - 6·4/(4·15) = 0.6. With ties: ranks of
	// 1 1 2 are 1.5 1.5 3, against 1 2 3: 0.866.
	for _, c := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{2, 1, 40, 3}, 0.6},
		{[]float64{1, 1, 2}, []float64{5, 6, 7}, math.Sqrt(3) / 2},
		{[]float64{3, 2, 1}, []float64{1, 5, 9}, -1},
	} {
		if got := spearman(c.a, c.b); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v, %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestScoreRefuses(t *testing.T) {
	out := filepath.Join(t.TempDir(), "s.json")
	for name, c := range map[string]struct {
		change func(o *ScoreOptions)
		kind   fault.Kind
		parts  []string
	}{
		"no text":         {func(o *ScoreOptions) { o.Calibration.Files = nil }, fault.Usage, []string{"calibration text"}},
		"method":          {func(o *ScoreOptions) { o.Method = "magic" }, fault.Usage, []string{"magic", "fisher"}},
		"bits":            {func(o *ScoreOptions) { o.Bits = []int{2, 9} }, fault.Usage, []string{"9"}},
		"group":           {func(o *ScoreOptions) { o.GroupRows = 0 }, fault.Usage, []string{"group rows"}},
		"missing file":    {func(o *ScoreOptions) { o.Calibration.Files = []string{"/nowhere/x.txt"} }, fault.Input, []string{"/nowhere/x.txt"}},
		"long sequence":   {func(o *ScoreOptions) { o.Calibration.SeqLen = 1 << 20 }, fault.Usage, []string{"max_position_embeddings"}},
		"small budget":    {func(o *ScoreOptions) { o.Calibration.Tokens = 10 }, fault.Usage, []string{"budget"}},
		"no model":        {func(o *ScoreOptions) { o.Model = "/nowhere" }, fault.Input, []string{"/nowhere"}},
		"twice the same":  {func(o *ScoreOptions) { o.Calibration.Files = append(o.Calibration.Files, o.Calibration.Files[0]) }, fault.Usage, []string{"given twice"}},
		"negative number": {func(o *ScoreOptions) { o.Validate = -1 }, fault.Usage, []string{"validate"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, Fisher, 2)
			c.change(&o)
			_, _, err := Score(bg, newPool(t, 1), out, false, o)
			wantFault(t, err, c.kind, c.parts...)
			if entries, _ := os.ReadDir(filepath.Dir(out)); len(entries) != 0 {
				t.Errorf("%d files are left", len(entries))
			}
		})
	}
	if err := os.WriteFile(out, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, err := Score(bg, newPool(t, 1), out, false, options(t, Weight, 2))
	wantFault(t, err, fault.Output, out, "there already")
}

func TestCalibration(t *testing.T) {
	pool := newPool(t, 1)
	m, err := infer.Open(bg, tinyModel, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	read := func(o CalibrationOptions) *Calibration {
		t.Helper()
		c, err := ReadCalibration(o, m.Tokenizer, m.Config)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	file := textFile(t, "a.txt", story)
	whole, err := eval.ReadCorpus(file, m.Tokenizer, m.Config.Separator())
	if err != nil {
		t.Fatal(err)
	}
	all := read(CalibrationOptions{Files: []string{file}, SeqLen: 50, Tokens: 1 << 20})
	if len(all.Sequences) != len(whole.IDs)/50 {
		t.Fatalf("%d sequences of %d tokens", len(all.Sequences), len(whole.IDs))
	}
	for i, s := range all.Sequences {
		if !slices.Equal(s, whole.IDs[50*i:50*i+50]) {
			t.Fatalf("sequence %d is not where it was in the text", i)
		}
	}
	some := read(CalibrationOptions{Files: []string{file}, SeqLen: 50, Tokens: 249})
	if len(some.Sequences) != 4 || some.Tokens() != 200 {
		t.Fatalf("%d sequences, %d tokens for a budget of 249", len(some.Sequences), some.Tokens())
	}
	at := -1
	for _, s := range some.Sequences { // a selection, in order, without repetition
		i := slices.IndexFunc(all.Sequences, func(x []int32) bool { return &x[0] == &s[0] || slices.Equal(x, s) })
		if i <= at && !slices.Equal(all.Sequences[at], s) {
			t.Errorf("sequence %d after %d", i, at)
		}
		at = i
	}
	again := read(CalibrationOptions{Files: []string{file}, SeqLen: 50, Tokens: 249})
	other := read(CalibrationOptions{Files: []string{file}, SeqLen: 50, Tokens: 249, Seed: 5})
	if !reflect.DeepEqual(some.Record, again.Record) || some.Record.Digest == other.Record.Digest {
		t.Errorf("digests %s, again %s, other seed %s", some.Record.Digest, again.Record.Digest, other.Record.Digest)
	}
	short := read(CalibrationOptions{Files: []string{textFile(t, "b.jsonl", `{"text":"The captain"}`+"\n"+`{"text":"the sea"}`)}, SeqLen: 64})
	if len(short.Sequences) != 1 || short.Tokens() < 4 || short.Tokens() > 20 {
		t.Errorf("a short text: %d sequences, %d tokens", len(short.Sequences), short.Tokens())
	}
	two := read(CalibrationOptions{Files: []string{file, textFile(t, "c.txt", "Another text.")}, SeqLen: 32, Tokens: 1 << 20})
	if len(two.Record.Files) != 2 {
		t.Errorf("files %v", two.Record.Files)
	}
	// Every passage of the text that was used is found in it, none in another text.
	if n := all.Record.Overlap(whole.IDs); n == 0 || n > len(all.Record.Passages) {
		t.Errorf("%d of %d passages in the text itself", n, len(all.Record.Passages))
	}
	elsewhere, err := eval.EncodeTexts("x", []string{strings.Repeat("It rained all day in the town, and nobody came. ", 40)}, m.Tokenizer, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := all.Record.Overlap(elsewhere.IDs); n != 0 {
		t.Errorf("%d passages in another text", n)
	}
}

// FuzzParseScores: what is read back can be planned with or is refused as bad input.
func FuzzParseScores(f *testing.F) {
	s := score(f, 2, options(f, Weight, 2, 4))
	s.Modules, s.Tensors = s.Modules[:2], s.Tensors[:3]
	data, err := s.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"schema":"afmq.scores/v1","config":"{}"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, shape, err := ParseScores("scores.json", data)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatalf("%v is no error of input", err)
			}
			return
		}
		if _, err := MakePlan(s, shape, Request{Target: Target{BPW: 3}}); err != nil && fault.KindOf(err) == fault.Unexpected {
			t.Fatal(err)
		}
	})
}
