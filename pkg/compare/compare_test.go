package compare

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/export/gguf"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
)

var bg = context.Background()

// files makes the demo model, artifacts of it with 2 and 4 bits, a GGUF file, an adapter that is bound
// to the 2-bit artifact and text that the model wrote. It returns paths by name.
func files(t *testing.T) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := demo.Extract(in("model")); err != nil {
		t.Fatal(err)
	}
	m, err := infer.Open(bg, in("model"), infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	texts, err := m.SampleTexts(bg, nil, 24, 60, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("text.txt"), []byte(strings.Join(texts, "\n\n")), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]quantize.Options{"q2": {Bits: 2}, "q4": {Bits: 4}, "q4k": {Form: "q4_k"}} {
		o.Model, o.Out = in("model"), in(name)
		if _, err := quantize.Run(bg, o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := gguf.Export(bg, gguf.Options{Artifact: in("q4k"), Out: in("q4k.gguf")}); err != nil {
		t.Fatal(err)
	}
	manifest, err := artifact.ReadManifest(in("q2"))
	if err != nil {
		t.Fatal(err)
	}
	writeAdapter(t, in("q2"), in("r1"), manifest.ContentHash)
	writeAdapter(t, in("q2"), in("unbound"), "")
	return in
}

// writeAdapter writes a random adapter of rank 1 for the query projections.
func writeAdapter(t *testing.T, base, dir, hash string) {
	t.Helper()
	cfg, err := model.LoadConfig(base)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(math.Round(1000*(rng.Float64()-0.5))) / 8192
		}
		return x
	}
	a := &adapter.Adapter{Dir: dir, Base: hash, Config: adapter.Config{Rank: 1, Alpha: 1}, Modules: map[string]adapter.Weights{}}
	for _, spec := range cfg.Tensors() {
		if spec.Kind == "q_proj" {
			a.Config.Modules = append(a.Config.Modules, spec.Module())
			a.Modules[spec.Module()] = adapter.Weights{A: random(spec.Shape[1]), B: random(spec.Shape[0])}
		}
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	err = adapter.Write(a, cfg, safetensors.F32, func(path string, data []byte) error { return os.WriteFile(path, data, 0o666) })
	if err != nil {
		t.Fatal(err)
	}
}

// The figures of every row are those of an evaluation of its own, to the last bit, with all models
// in memory and with one at a time.
func TestRun(t *testing.T) {
	in := files(t)
	for _, oneAtATime := range []bool{false, true} {
		for _, reference := range []string{"model", ""} {
			o := Options{
				Models: []Model{{Path: in("q2")}, {Name: "four", Path: in("q4")}, {Path: in("q4k.gguf")}}, Data: in("text.txt"), Ctx: 64,
				Adapters: []eval.Adapter{{Name: "r1", Dir: in("r1")}}, OneAtATime: oneAtATime, Arithmetic: compute.F32,
			}
			names := []string{"q2", "q2+r1", "four", "q4k.gguf"}
			eo := eval.Options{Data: o.Data, Ctx: 64, Arithmetic: compute.F32}
			if reference != "" {
				o.Reference, eo.Reference = &Model{Path: in("model")}, in("model")
				names = append([]string{"model"}, names...)
			}
			r, err := Run(bg, o)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, row := range r.Models {
				got = append(got, row.Name)
			}
			if !slices.Equal(got, names) || r.Tokens == 0 || r.Windows < MinWindows || len(r.Warnings) > 0 || len(r.Pairs) != 6 {
				t.Fatalf("rows %v; %d tokens, %d windows, %d pairs, %v", got, r.Tokens, r.Windows, len(r.Pairs), r.Warnings)
			}
			for _, name := range []string{"q2", "q4", "q4k.gguf"} {
				eo.Model, eo.Adapters = in(name), nil
				if name == "q2" {
					eo.Adapters = o.Adapters
				}
				e, err := eval.Run(bg, eo)
				if err != nil {
					t.Fatal(err)
				}
				row := r.Row(map[string]string{"q4": "four"}[name])
				if row == nil {
					row = r.Row(name)
				}
				same(t, row, e.Result, e.Identity.Model.Bytes)
				if row.Identity.Digest != e.Identity.Model.Digest || row.Adapter != nil {
					t.Errorf("%s: identity %+v, adapter %+v", name, row.Identity, row.Adapter)
				}
				if bpw, _, err := artifact.Measure(in(name)); err != nil || row.BPW != bpw {
					t.Errorf("%s: %+v, %v", name, row.BPW, err)
				}
				for _, a := range e.Adapters {
					with := r.Row("q2+r1")
					same(t, with, a.Result, e.Identity.Model.Bytes+a.Identity.Bytes)
					if with.Adapter.Identity.SHA256 != a.Identity.SHA256 || !(*with.BPW.WithAdapter > with.BPW.Model) || with.NatsPerToken == row.NatsPerToken {
						t.Errorf("the adapter has %+v", with)
					}
				}
			}
			if reference != "" {
				e, err := eval.Run(bg, eval.Options{Model: in("model"), Data: o.Data, Ctx: 64, Arithmetic: compute.F32})
				if err != nil {
					t.Fatal(err)
				}
				first := &r.Models[0]
				same(t, first, e.Result, e.Identity.Model.Bytes)
				if first.Standing != IsReference || first.Divergence != nil || *r.Reference != "model" || r.Quantity != ByKL {
					t.Errorf("the reference has %+v", first)
				}
			}
			check(t, r)
		}
	}
}

// same compares a row with an evaluation.
func same(t *testing.T, row *Row, e *eval.Result, bytes int64) {
	t.Helper()
	if row.NatsPerToken != e.NatsPerToken || row.Perplexity != e.Perplexity || row.PerplexitySE != e.PerplexitySE || row.BitsPerByte != e.BitsPerByte || row.Bytes != bytes || !(row.Speed > 0) {
		t.Errorf("%s: %+v, an evaluation gives %+v and %d bytes", row.Name, row, e, bytes)
	}
	if d := row.Divergence; (d == nil) != (e.Comparison == nil) {
		t.Errorf("%s: divergence %v", row.Name, d)
	} else if d != nil && (d.KL != e.KL || d.SameTop1 != e.SameTop1 || d.PerplexityRatio != e.PerplexityRatio || d.KLInterval.Mean == 0 || math.Abs(d.KLInterval.Mean-d.KL.Mean) > 1e-12) {
		t.Errorf("%s: %+v, an evaluation gives %+v", row.Name, d, e.Comparison)
	}
}

// check holds standing, front and best against their definitions, which it applies to the pairs.
func check(t *testing.T, r *Result) {
	t.Helper()
	better := func(a, b string) bool {
		for _, p := range r.Pairs {
			if p.Better != nil && *p.Better == a && (p.A == a && p.B == b || p.A == b && p.B == a) {
				return true
			}
		}
		return false
	}
	rows := r.candidates()
	for _, b := range rows {
		var dominated, open []string
		least := b
		for _, a := range rows {
			if a.Bytes > b.Bytes {
				continue
			}
			if r.mean(a) < r.mean(least) {
				least = a
			}
			if a != b && better(a.Name, b.Name) {
				dominated = append(dominated, a.Name)
			} else if a != b && !better(b.Name, a.Name) {
				open = append(open, a.Name)
			}
		}
		if !slices.Equal(b.DominatedBy, dominated) || !slices.Equal(b.NotShownBetterThan, open) || (b.Standing == IsDominated) != (len(dominated) > 0) {
			t.Errorf("%s is %s, by %v, not better than %v; want %v, %v", b.Name, b.Standing, b.DominatedBy, b.NotShownBetterThan, dominated, open)
		}
		if slices.Contains(r.Front, b.Name) != (len(dominated) == 0) {
			t.Errorf("front %v, %s is dominated by %v", r.Front, b.Name, dominated)
		}
		i := slices.IndexFunc(r.Best, func(x Best) bool { return x.MaxBytes == b.Bytes })
		if i < 0 || r.Best[i].Models[0] != least.Name {
			t.Errorf("up to %d bytes: %+v, the least is %s", b.Bytes, r.Best, least.Name)
			continue
		}
		for _, a := range rows {
			if want := a.Bytes <= b.Bytes && (a == least || !better(least.Name, a.Name)); want != slices.Contains(r.Best[i].Models, a.Name) {
				t.Errorf("up to %d bytes: %+v; %s: %v", b.Bytes, r.Best[i], a.Name, want)
			}
		}
	}
}

// What Run returns passes its own check, and no change of it does.
func TestCheck(t *testing.T) {
	in := files(t)
	run := func() *Result {
		r, err := Run(bg, Options{Models: []Model{{Path: in("q2")}, {Path: in("q4")}}, Reference: &Model{Path: in("model")}, Data: in("text.txt"), Ctx: 64,
			Tasks: []TaskFile{{"model", "../lmeval/testdata/reference"}, {"q4", "../lmeval/testdata/q4"}}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := run().Check(); err != nil {
		t.Fatal(err)
	}
	other := "q2"
	for what, change := range map[string]func(r *Result){
		"two models are called":    func(r *Result) { r.Models[1].Name = "q4" },
		"is not the reference":     func(r *Result) { r.Reference = &other },
		"is missing":               func(r *Result) { r.Pairs = nil },
		"more pairs":               func(r *Result) { r.Pairs = append(r.Pairs, r.Pairs[0]) },
		"does not follow from the": func(r *Result) { r.Pairs[0].Better = &other },
		"the standing of":          func(r *Result) { r.Models[1].Standing = IsDominated },
		"front and best":           func(r *Result) { r.Front = r.Front[:1] },
		"its size":                 func(r *Result) { r.Models[1].Bytes = -1 },
		"a perplexity of":          func(r *Result) { r.Models[1].Perplexity *= 2 },
		"a divergence without":     func(r *Result) { r.Models[1].Divergence = nil },
		"SHA-256":                  func(r *Result) { r.Models[1].Identity.Digest = "x" },
		"flips":                    func(r *Result) { r.Models[2].Tasks.Scores[1].Flips.Worse = 99 },
		"no models":                func(r *Result) { r.Models = r.Models[:1] },
		"its quantity":             func(r *Result) { r.Quantity = ByLoss },
	} {
		r := run()
		change(r)
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// made returns a result with candidates of these sizes; window w of candidate i has the divergence
// kl(i, w).
func made(bytes []int64, windows int, kl func(i, w int) float64) *Result {
	name := "source"
	r := &Result{Reference: &name, Models: []Row{{Name: name, Standing: IsReference}}}
	for i, n := range bytes {
		row := Row{Name: string(rune('a' + i)), Bytes: n, Divergence: &Divergence{}, DominatedBy: []string{}, NotShownBetterThan: []string{}}
		sum := 0.0
		for w := range windows {
			x := kl(i, w)
			row.windows = append(row.windows, eval.WindowScore{Tokens: 100, KL: &x})
			sum += x / float64(windows)
		}
		row.Divergence.KL.Mean = sum
		r.Models = append(r.Models, row)
	}
	return r
}

// Two candidates whose windows vary far more than they differ are told apart if the difference is
// the same in each window, and are not if it is noise.
func TestRank(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	shared, noise := make([]float64, 64), make([][3]float64, 64)
	for w := range shared {
		shared[w] = 0.1 + rng.Float64()
		for i := range noise[w] {
			noise[w][i] = 0.02 * rng.NormFloat64()
		}
	}
	// a is small and bad; b and c are of one quality; c is larger; d is the largest and worse than b.
	r := made([]int64{10, 20, 30, 40}, 64, func(i, w int) float64 {
		return shared[w] + []float64{0.05, 0, noise[w][0], 0.01}[i]
	})
	if err := r.rank(true); err != nil {
		t.Fatal(err)
	}
	check(t, r)
	if !slices.Equal(r.Front, []string{"a", "b", "c"}) || !slices.Equal(r.Row("d").DominatedBy, []string{"b", "c"}) && !slices.Equal(r.Row("d").DominatedBy, []string{"b"}) {
		t.Errorf("front %v, d is dominated by %v", r.Front, r.Row("d").DominatedBy)
	}
	if !slices.Equal(r.Row("c").NotShownBetterThan, []string{"b"}) {
		t.Errorf("c is not shown better than %v", r.Row("c").NotShownBetterThan)
	}
	if last := r.Best[len(r.Best)-1]; len(last.Models) < 2 {
		t.Errorf("b and c are told apart: %+v", last)
	}
	// The intervals hold together.
	for _, p := range r.Pairs {
		if want := 1 - 0.05/6; math.Abs(p.Difference.Confidence-want) > 1e-12 {
			t.Errorf("confidence %v, want %v", p.Difference.Confidence, want)
		}
	}
	// Without intervals nothing is told apart, and nothing is dominated.
	if err := r.rank(false); err != nil {
		t.Fatal(err)
	}
	if len(r.Front) != 4 || r.Pairs[0].Difference != nil || r.Pairs[0].Better != nil {
		t.Errorf("%+v", r)
	}
}

// Of equal models none is named the better one: in 200 comparisons of five candidates that differ by
// noise alone, about 1 in 20 tells any two apart.
func TestRankUnderTheNull(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	wrong := 0
	const rounds = 200
	for range rounds {
		r := made([]int64{1, 2, 3, 4, 5}, 64, func(i, w int) float64 { return 1 + rng.NormFloat64() })
		if err := r.rank(true); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(r.Pairs, func(p Pair) bool { return p.Better != nil }) {
			wrong++
		}
	}
	if wrong > 20 { // P(more than 20 of 200 at 1 in 20) is 0.001
		t.Errorf("%d of %d comparisons of equal models tell two apart", wrong, rounds)
	}
}

// A text that is too short or repeats itself tells nothing apart, and a warning says why.
func TestNothingToTell(t *testing.T) {
	in := files(t)
	o := Options{Models: []Model{{Path: in("q2")}, {Path: in("q4")}}, Data: in("text.txt"), Reference: &Model{Path: in("model")}, Ctx: 512}
	r, err := Run(bg, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Windows >= MinWindows || r.Pairs[0].Difference != nil || len(r.Front) != 2 || !strings.Contains(strings.Join(r.Warnings, "\n"), "of the 16 windows that this needs") {
		t.Errorf("%d windows, %+v, %q", r.Windows, r.Pairs, r.Warnings)
	}
	text, err := os.ReadFile(in("text.txt"))
	if err == nil {
		err = os.WriteFile(in("copies.txt"), slices.Repeat(text, 3), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.Data, o.Ctx = in("copies.txt"), 64
	if r, err = Run(bg, o); err != nil {
		t.Fatal(err)
	}
	if r.Windows < MinWindows || r.Pairs[0].Difference != nil || !strings.Contains(strings.Join(r.Warnings, "\n"), "repeats itself") {
		t.Errorf("%d windows, %+v, %q", r.Windows, r.Pairs, r.Warnings)
	}
}

// What cannot be compared is refused before any weights are read, by name.
func TestRefuses(t *testing.T) {
	in := files(t)
	if err := os.CopyFS(in("stranger"), os.DirFS(in("model"))); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(in("stranger/tokenizer.json"))
	if err == nil {
		err = os.WriteFile(in("stranger/tokenizer.json"), []byte(strings.Replace(string(data), `"normalizer": null`, `"normalizer": {"type": "Prepend", "prepend": "T"}`, 1)), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	lm := "../lmeval/testdata"
	two := []Model{{Path: in("q2")}, {Path: in("q4")}}
	// A run of another task alone.
	short, err := os.ReadFile(lm + "/short/my-short/results_2026-11-30T12-02-20.978885.json")
	if err == nil {
		err = os.WriteFile(in("results_other.json"), bytes.ReplaceAll(short, []byte("afmq_sums"), []byte("afmq_other")), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	three := append(slices.Clone(two), Model{Name: "third", Path: in("q2")})
	for name, c := range map[string]struct {
		o    Options
		kind fault.Kind
		want string
	}{
		"nothing":                            {Options{}, fault.Usage, "no model to compare"},
		"one name twice":                     {Options{Models: []Model{{Path: in("q2")}, {Name: "q2", Path: in("q4")}}}, fault.Usage, `both called "q2"`},
		"the reference again":                {Options{Models: two, Reference: &Model{Path: in("q4")}}, fault.Usage, "is the reference"},
		"no such model":                      {Options{Models: []Model{{Path: in("q2")}, {Path: in("q9")}}}, fault.Input, "q9"},
		"another tokenizer":                  {Options{Models: []Model{{Path: in("q2")}, {Path: in("stranger")}}}, fault.Input, "differs from the tokenizer"},
		"other tokens":                       {Options{Models: []Model{{Path: in("q4k.gguf")}, {Path: in("stranger")}}}, fault.Input, "has other tokens for"},
		"a stranger's adapter":               {Options{Models: []Model{{Path: in("q4")}, {Path: in("model")}}, Adapters: []eval.Adapter{{Name: "r", Dir: in("r1")}}}, fault.Input, "none of the models"},
		"an unbound adapter":                 {Options{Models: two, Adapters: []eval.Adapter{{Name: "u", Dir: in("unbound")}}, AllowUnbound: true}, fault.Input, "there are 2 models"},
		"no adapter":                         {Options{Models: two, Adapters: []eval.Adapter{{Name: "u", Dir: in("model")}}}, fault.Input, "model"},
		"one adapter twice":                  {Options{Models: two, Adapters: []eval.Adapter{{Name: "r", Dir: in("r1")}, {Name: "r", Dir: in("r1")}}}, fault.Usage, `two rows are called "q2+r"`},
		"results of no row":                  {Options{Models: two, Tasks: []TaskFile{{"q3", lm + "/q4"}}}, fault.Usage, `bound to "q3", which is no row`},
		"two results of a row":               {Options{Models: two, Tasks: []TaskFile{{"q4", lm + "/q4"}, {"q4", lm + "/bare"}}}, fault.Usage, "has two results"},
		"one run of two models":              {Options{Models: two, Tasks: []TaskFile{{"q4", lm + "/q4"}, {"q2", lm + "/q4"}}}, fault.Input, "cannot be that of two models"},
		"runs that the first has nothing of": {Options{Models: three, Tasks: []TaskFile{{"q2", in("results_other.json")}, {"q4", lm + "/q4"}, {"third", lm + "/shots"}}}, fault.Input, "n-shot.afmq_sums"},
		"other runs":                         {Options{Models: two, Tasks: []TaskFile{{"q4", lm + "/q4"}, {"q2", lm + "/shots"}}}, fault.Input, "n-shot.afmq_sums"},
	} {
		if c.o.Data == "" {
			c.o.Data = in("text.txt")
		}
		c.o.Ctx = 64
		_, err := Run(bg, c.o)
		if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	// An unbound adapter is taken on a single model.
	o := Options{Models: two[:1], Data: in("text.txt"), Ctx: 64, Adapters: []eval.Adapter{{Name: "u", Dir: in("unbound")}}, AllowUnbound: true}
	r, err := Run(bg, o)
	if err != nil || r.Row("q2+u") == nil || r.Row("q2+u").Adapter.Identity.Bound {
		t.Errorf("%v, %+v", err, r)
	}
}

// Results are bound to the rows that they are given for; those of the reference have no recovery.
func TestTasks(t *testing.T) {
	in := files(t)
	lm := "../lmeval/testdata"
	r, err := Run(bg, Options{
		Models: []Model{{Path: in("q2")}, {Path: in("q4")}}, Reference: &Model{Path: in("model")}, Data: in("text.txt"), Ctx: 64,
		Adapters: []eval.Adapter{{Name: "r1", Dir: in("r1")}},
		Tasks:    []TaskFile{{"model", lm + "/reference"}, {"q4", lm + "/q4"}, {"q2+r1", lm + "/bare"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Row("q2").Tasks != nil {
		t.Error("q2 has results")
	}
	for name, flips := range map[string]bool{"model": false, "q4": true, "q2+r1": false} {
		tasks := r.Row(name).Tasks
		if tasks == nil || len(tasks.Scores) != 10 || tasks.Version != "0.4.13" {
			t.Errorf("%s: %+v", name, tasks)
			continue
		}
		for _, s := range tasks.Scores {
			if (s.Recovery != nil) != (name != "model") {
				t.Errorf("%s: %+v", name, s)
			}
			if s.Metric == "acc" && (s.Flips != nil) != flips {
				t.Errorf("%s: flips %+v", name, s)
			}
		}
	}
}

// A comparison that is cancelled ends with the error of its context.
func TestCancelled(t *testing.T) {
	in := files(t)
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := Run(ctx, Options{Models: []Model{{Path: in("q2")}, {Path: in("q4")}}, Data: in("text.txt"), Ctx: 64}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
