package sensitivity

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
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

// story is a text similar to the training text of the tiny model.
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

// options score the tiny model on about 500 tokens.
func options(t testing.TB, method Method, bits ...int) Options {
	o := Options{Model: tinyModel, Method: method, Bits: bits, ToolVersion: "test"}
	if method.NeedsText() {
		o.Calibration = CalibrationOptions{Files: []string{textFile(t, "story.txt", story)}, SeqLen: 64, Tokens: 512}
	}
	return o
}

func score(t testing.TB, threads int, o Options) *Scores {
	t.Helper()
	o.Threads = threads
	r, err := Score(bg, o)
	if err != nil {
		t.Fatal(err)
	}
	return r.Scores
}

// TestFisherPredictsKL compares the prediction with the measurement, in rank and in sum.
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

// TestKLIsMeasured compares a score with a full run of both models.
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
		p, _, err := palettize.Palettize(pool, palettize.Source{F32: plain}, w.Rows(), w.Cols(), palettize.Options{Bits: 2})
		if err != nil {
			t.Fatal(err)
		}
		changed := *m
		changed.Blocks = slices.Clone(m.Blocks)
		changed.SetMatrix(spec, packed(p))
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

// TestErrorsOfWeightsAndOutputs compares the methods weight and hessian with their
// definitions.
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
		q, report, err := palettize.Palettize(pool, palettize.Source{F32: w}, spec.Shape[0], spec.Shape[1], palettize.Options{Bits: 3})
		if err != nil {
			t.Fatal(err)
		}
		if got := weight.Modules[i].Costs[0]; math.Abs(got-report.SquaredError) > 1e-6*got {
			t.Errorf("weight of %s: %v, want %v", spec.Name, got, report.SquaredError)
		}
		y := make([]float32, p.N*spec.Shape[0])
		pool.MulT(y, p.X, p.N, packed(q))
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

func TestScoreRefuses(t *testing.T) {
	out := filepath.Join(t.TempDir(), "s.json")
	for name, c := range map[string]struct {
		change func(o *Options)
		kind   fault.Kind
		parts  []string
	}{
		"no text":         {func(o *Options) { o.Calibration.Files = nil }, fault.Usage, []string{"calibration text"}},
		"method":          {func(o *Options) { o.Method = "magic" }, fault.Usage, []string{"magic", "fisher"}},
		"bits":            {func(o *Options) { o.Bits = []int{2, 9} }, fault.Usage, []string{"9"}},
		"group":           {func(o *Options) { o.GroupRows = -1 }, fault.Usage, []string{"group rows"}},
		"missing file":    {func(o *Options) { o.Calibration.Files = []string{"/nowhere/x.txt"} }, fault.Input, []string{"/nowhere/x.txt"}},
		"long sequence":   {func(o *Options) { o.Calibration.SeqLen = 1 << 20 }, fault.Usage, []string{"max_position_embeddings"}},
		"small budget":    {func(o *Options) { o.Calibration.Tokens = 10 }, fault.Usage, []string{"budget"}},
		"no model":        {func(o *Options) { o.Model = "/nowhere" }, fault.Input, []string{"/nowhere"}},
		"twice the same":  {func(o *Options) { o.Calibration.Files = append(o.Calibration.Files, o.Calibration.Files[0]) }, fault.Usage, []string{"listed twice"}},
		"negative number": {func(o *Options) { o.Validate = -1 }, fault.Usage, []string{"validate"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, Fisher, 2)
			o.Out = out
			c.change(&o)
			_, err := Score(bg, o)
			wantFault(t, err, c.kind, c.parts...)
			if entries, _ := os.ReadDir(filepath.Dir(out)); len(entries) != 0 {
				t.Errorf("%d files are left", len(entries))
			}
		})
	}
	if err := os.WriteFile(out, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	mine := options(t, Weight, 2)
	mine.Out = out
	_, err := Score(bg, mine)
	wantFault(t, err, fault.Output, out, "already exists")
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
	if data, err = score(f, 2, withEnds(f, Weight, 2)).Encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"schema":"afmq.scores/v1","config":"{}"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseScores("scores.json", data)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatalf("%v is no error of input", err)
			}
			return
		}
		for _, of := range []Scope{"", OfModel} {
			if _, err := MakePlan(s, PlanOptions{Target: Target{BPW: 3, Of: of}}); err != nil && fault.KindOf(err) == fault.Unexpected {
				t.Fatal(err)
			}
		}
	})
}

// packed returns palettes in the form in which the engine multiplies with them.
func packed(m *palettize.Matrix) *compute.Matrix {
	return compute.PackLUT(m.Rows, m.Cols, m.Bits, m.GroupRows, m.Indices, m.LUT, m.RowScale)
}
