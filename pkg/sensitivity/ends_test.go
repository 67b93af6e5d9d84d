package sensitivity

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

	"afmq/internal/kernel"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
	"afmq/pkg/shard"
)

// untiedModel is a checkpoint with a head of its own, of random weights.
const untiedModel = "../infer/testdata/models/qwen2-bf16"

// withEnds is options with embedding and head.
func withEnds(t testing.TB, method Method, bits ...int) Options {
	o := options(t, method, bits...)
	o.Ends = true
	return o
}

// Scores of the other modules, and all but the ends of the file, are those without them.
func TestEndsChangeNothingElse(t *testing.T) {
	for _, method := range []Method{Fisher, KL, Hessian, Weight} {
		plain, ends := score(t, 2, options(t, method, 2)), score(t, 2, withEnds(t, method, 2))
		if len(ends.Ends) != 1 || !slices.Equal(ends.Ends[0].Bits, []int{2, 4, 5, 6, 8}) || ends.Ends[0].Name != "model.embed_tokens" {
			t.Fatalf("%s: %+v", method, ends.Ends)
		}
		costs := ends.Ends[0].Costs
		for i, c := range costs {
			if !(c > 0) || i > 0 && c >= costs[i-1] {
				t.Errorf("%s: costs %v", method, costs)
			}
		}
		ends.Ends = nil
		a, err := plain.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := ends.Encode(); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: other scores, %v", method, err)
		}
	}
}

// The score by kl of an embedding that is also the head is the divergence with another one in both
// places, measured by running both models, and the prediction of fisher is close to it.
func TestEndsAreMeasured(t *testing.T) {
	pool := newPool(t, 2)
	o := withEnds(t, KL, 3)
	s := score(t, 2, o)
	fisher := score(t, 2, withEnds(t, Fisher, 3))
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
	src, _ := ckpt.Tensor("model.embed_tokens.weight")
	for k, bits := range s.Ends[0].Bits {
		sc := &scorer{pool: pool, ends: endWidths(s.Ends[0].Bits), group: 16, scaled: true}
		p, _, err := sc.quantize(&module{spec: m.Config.Tensors()[0], src: src, end: true}, k)
		if err != nil {
			t.Fatal(err)
		}
		changed := *m
		changed.Embedding, changed.Head = p, p
		sum := 0.0
		for _, ids := range text.Sequences {
			a, b := allLogits(m, pool, ids), allLogits(&changed, pool, ids)
			for i := range ids {
				x, y := a[i*m.Config.VocabSize:][:m.Config.VocabSize], b[i*m.Config.VocabSize:][:m.Config.VocabSize]
				sum += kernel.KL(x, y, kernel.LogSumExp(x), kernel.LogSumExp(y))
			}
		}
		want := sum / float64(text.Tokens())
		if got := s.Ends[0].Costs[k]; math.Abs(got-want) > 1e-4*want {
			t.Errorf("%d bits: %v, measured %v", bits, got, want)
		}
		if ratio := fisher.Ends[0].Costs[k] / want; !(ratio > 0.8 && ratio < 1.25) {
			t.Errorf("%d bits: fisher predicts %v of the measured divergence %v", bits, ratio, want)
		}
	}
}

// Of a model with a head of its own, each score is of one of them: fisher is compared with its
// definition for every label, and the measured divergence with a run of the changed model.
func TestUntiedEnds(t *testing.T) {
	dir := untiedCheckpoint(t)
	pool := newPool(t, 2)
	o := withEnds(t, KL, 3)
	o.Model = dir
	o.Calibration.Tokens = 128
	kl := score(t, 2, o)
	o.Method = Fisher
	fisher := score(t, 2, o)
	o.Method = Hessian
	hessian := score(t, 2, o)
	m, err := infer.Open(bg, dir, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	text, err := ReadCalibration(o.Calibration, m.Tokenizer, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	ckpt, err := safetensors.OpenCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	if len(kl.Ends) != 2 || kl.Ends[0].Name != "model.embed_tokens" || kl.Ends[1].Name != "lm_head" {
		t.Fatalf("%+v", kl.Ends)
	}
	for i, name := range []string{"model.embed_tokens", "lm_head"} {
		src, _ := ckpt.Tensor(name + ".weight")
		sc := &scorer{pool: pool, ends: endWidths([]int{3}), group: 16, scaled: true}
		spec := model.TensorSpec{Name: name + ".weight", Shape: src.Shape}
		p, _, err := sc.quantize(&module{spec: spec, src: src, end: true}, 0)
		if err != nil {
			t.Fatal(err)
		}
		changed := *m
		if i == 0 {
			changed.Embedding = p
		} else {
			changed.Head = p
		}
		sum, labels, squares := 0.0, 0.0, 0.0
		for _, ids := range text.Sequences {
			a, b := allLogits(m, pool, ids), allLogits(&changed, pool, ids)
			for k := range ids {
				x, y := a[k*m.Config.VocabSize:][:m.Config.VocabSize], b[k*m.Config.VocabSize:][:m.Config.VocabSize]
				lse := kernel.LogSumExp(x)
				sum += kernel.KL(x, y, lse, kernel.LogSumExp(y))
				for label := range x { // the square of the change of its nats, to first order: g·ΔW·x
					g := 0.0
					for v := range x {
						d := math.Exp(float64(x[v]) - lse)
						if v == label {
							d--
						}
						g += d * (float64(y[v]) - float64(x[v]))
					}
					labels += math.Exp(float64(x[label])-lse) * g * g
					if label == 0 {
						for v := range x {
							squares += (float64(y[v]) - float64(x[v])) * (float64(y[v]) - float64(x[v]))
						}
					}
				}
			}
		}
		n := float64(text.Tokens())
		if got, want := kl.Ends[i].Costs[0], sum/n; math.Abs(got-want) > 1e-3*want+1e-9 {
			t.Errorf("%s: kl %v, measured %v", name, got, want)
		}
		if i == 1 {
			if got, want := fisher.Ends[i].Costs[0], labels/n/2; math.Abs(got-want) > 1e-3*want {
				t.Errorf("%s: fisher %v, by its definition %v", name, got, want)
			}
			if got, want := hessian.Ends[i].Costs[0], squares/n; math.Abs(got-want) > 1e-3*want {
				t.Errorf("%s: hessian %v, by its definition %v", name, got, want)
			}
		}
	}
}

// untiedCheckpoint returns a copy of a small checkpoint of random weights with a head of its own, and a tokenizer.
func untiedCheckpoint(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(untiedModel)); err != nil {
		t.Fatal(err)
	}
	const tokenizer = `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"post_processor":null,"decoder":{"type":"ByteLevel"},
"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2,"t":3,"e":4,"Ġ":5,"h":6,"s":7,"n":8,"o":9},"merges":[]}}`
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte(tokenizer), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "expected.safetensors")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Statistics and shards have the scores of one run, also where they were interrupted.
func TestEndsInShards(t *testing.T) {
	o := statsOptions(t)
	o.Ends = true
	want, err := score(t, 2, o.scoring()).Encode()
	if err != nil {
		t.Fatal(err)
	}
	o.Out = filepath.Join(t.TempDir(), "stats")
	stopped := o
	ctx, cancel := context.WithCancel(bg)
	stopped.Progress = &stopAfter{progress.Silent, 4, cancel} // the layers, but not the ends
	if _, err := CollectStats(ctx, stopped); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	cancel()
	if r := collect(t, o); r.ResumedLayers != 4 || r.Layers != 4 {
		t.Errorf("%+v", r)
	}
	whole, err := OpenStats(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := whole.Scores.Encode(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("statistics have other scores, %v", err)
	}
	other := o
	other.Ends = false
	other.Out = filepath.Join(t.TempDir(), "other")
	collect(t, other)
	if plain, err := OpenStats(other.Out); err != nil || plain.Digest == whole.Digest {
		t.Errorf("the same digest with and without ends, %v", err)
	}
	for _, method := range []Method{Fisher, KL, Weight} {
		o := statsOptions(t).Options
		o.Method, o.Ends = method, true
		if method != Fisher {
			o.Calibration.Tokens, o.Bits = 256, []int{3}
		}
		want, err := score(t, 2, o).Encode()
		if err != nil {
			t.Fatal(err)
		}
		o.Out = filepath.Join(t.TempDir(), "job")
		for i := range 3 {
			if _, err := ScoreShard(bg, o, shard.Shard{Index: i, Count: 3}); err != nil {
				t.Fatal(err)
			}
		}
		s, err := MergeScores(o.Out)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Encode(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: other scores in shards, %v", method, err)
		}
	}
}

// A run that was interrupted after some units, the last of which is of the ends, continues.
func TestEndsResume(t *testing.T) {
	o := withEnds(t, Fisher, 2)
	want, err := score(t, 1, o).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{2, 4} {
		o.Out = filepath.Join(t.TempDir(), "s.json")
		interrupt(t, o, n)
		r, err := Score(bg, o)
		if err != nil || r.ResumedUnits != n {
			t.Fatalf("%+v, %v", r, err)
		}
		if got, err := os.ReadFile(o.Out); err != nil || !bytes.Equal(got, want) {
			t.Errorf("stopped after %d: other scores, %v", n, err)
		}
	}
	o.Out = filepath.Join(t.TempDir(), "s.json")
	interrupt(t, o, 2)
	o.Ends = false
	_, err = Score(bg, o)
	wantFault(t, err, fault.Input, "--embedding")
}

// The validation measures the ends, too.
func TestValidateEnds(t *testing.T) {
	o := withEnds(t, Fisher, 2)
	o.Validate = 2
	s := score(t, 2, o)
	kl := score(t, 2, withEnds(t, KL, 2))
	if v := s.Validation; len(v.Modules) != 2 || len(v.Ends) != 1 || !slices.Equal(v.Ends[0].Measured, kl.Ends[0].Costs) {
		t.Errorf("%+v, measured %v", s.Validation, kl.Ends)
	}
}

func TestEndsRefused(t *testing.T) {
	o := Options{Model: tinyModel, Method: Weight, Forms: []artifact.Form{"q4_k"}, Ends: true}
	_, err := Score(bg, o)
	wantFault(t, err, fault.Usage, "chosen beside palettes", "q4_k")

	s, _ := scored(t)
	_, err = MakePlan(s, PlanOptions{Target: Target{BPW: 4, Of: OfModel}})
	wantFault(t, err, fault.Usage, "the embedding was not scored")
	var f *fault.Error
	if !errors.As(err, &f) || !strings.Contains(f.Hint, "afmq sensitivity --embedding") {
		t.Errorf("hint of %v", err)
	}
	_, err = Feasible(nilShape(t), Storage{16, false}, PlanOptions{Target: Target{BPW: 4, Of: OfModel}, Forms: []artifact.Form{"q4_0"}})
	wantFault(t, err, fault.Usage, "chosen beside palettes", "q4_0")
	_, err = MakePlan(s, PlanOptions{Target: Target{BPW: 4, Of: "planet"}})
	wantFault(t, err, fault.Usage, "planet")
	if _, err := ParseScope("planet"); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}

	ends := score(t, 2, withEnds(t, Weight, 2))
	for name, change := range map[string]func(e []EndScore) []EndScore{
		"another name":    func(e []EndScore) []EndScore { e[0].Name = "lm_head"; return e },
		"another shape":   func(e []EndScore) []EndScore { e[0].Shape = []int{1, 2}; return e },
		"too many":        func(e []EndScore) []EndScore { return append(e, e[0]) },
		"a cost less":     func(e []EndScore) []EndScore { e[0].Costs = e[0].Costs[1:]; return e },
		"a width twice":   func(e []EndScore) []EndScore { e[0].Bits[1] = e[0].Bits[0]; return e },
		"a width too big": func(e []EndScore) []EndScore { e[0].Bits[4] = 9; return e },
		"no number":       func(e []EndScore) []EndScore { e[0].Costs[0] = math.Inf(1); return e },
	} {
		c := ends.clone()
		for i := range c.Ends {
			copy(c.Ends[i].Costs, ends.Ends[i].Costs)
			c.Ends[i].Bits = slices.Clone(c.Ends[i].Bits)
		}
		c.Ends = change(c.Ends)
		if _, err := c.check("s.json"); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "s.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// nilShape is the shape of the tiny config in F16.
func nilShape(t *testing.T) *Shape {
	cfg := tinyConfig(t, true)
	s := &Shape{Config: cfg, DTypes: map[string]safetensors.DType{}}
	for _, spec := range cfg.Tensors() {
		s.DTypes[spec.Name] = safetensors.F16
	}
	return s
}

// addEnds gives scores of embedding and head at some of the widths that they may have.
func addEnds(s *Scores, shape *Shape, r *rand.Rand) {
	for _, spec := range shape.Config.Tensors() {
		if !isEnd(spec) {
			continue
		}
		bits := slices.Clone(endBits(s.Bits))
		for len(bits) > 3 {
			at := r.IntN(len(bits) - 1)
			bits = slices.Delete(bits, at, at+1)
		}
		e := EndScore{Name: spec.Module(), Shape: spec.Shape, Bits: bits}
		c := math.Exp(2 * r.NormFloat64())
		for range bits {
			e.Costs = append(e.Costs, c)
			c *= 0.1 + 0.8*r.Float64()
		}
		s.Ends = append(s.Ends, e)
	}
}

// allPlansOf returns the sizes and the costs of all plans in which embedding and head take part.
func allPlansOf(t *testing.T, s *Scores, shape *Shape) (sizes []Size, costs []float64) {
	t.Helper()
	type choice struct {
		name   string
		widths []Width
		costs  []float64
	}
	var choices []choice
	for i := range s.Modules {
		choices = append(choices, choice{s.Modules[i].Name, s.Widths(), s.Modules[i].Costs})
	}
	for _, e := range s.Ends {
		choices = append(choices, choice{e.Name, endWidths(e.Bits), e.Costs})
	}
	widths := map[string]Width{}
	var pick func(i int, cost float64)
	pick = func(i int, cost float64) {
		if i == len(choices) {
			size, err := shape.Measure(s.storage(), widths)
			if err != nil {
				t.Fatal(err)
			}
			sizes, costs = append(sizes, size), append(costs, cost)
			return
		}
		for o, w := range choices[i].widths {
			widths[choices[i].name] = w
			pick(i+1, cost+choices[i].costs[o])
		}
	}
	pick(0, 0)
	return sizes, costs
}

// Where embedding and head take part, plans keep the bound and are optimal, in bits per weight of the
// model and in bytes of the file, whose header depends on the forms.
func TestEndsAgreeWithBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	plans, palettes, rows := 0, 0, 0
	for range 12 {
		s, shape := randomScores(t, r)
		addEnds(s, shape, r)
		sizes, costs := allPlansOf(t, s, shape)
		for k := range 24 {
			some := sizes[r.IntN(len(sizes))]
			target := Target{BPW: some.BPW.Model, Of: OfModel}
			within := func(size Size) bool { return size.BPW.Model <= target.BPW }
			if k%3 == 1 {
				target.BPW *= 1 + 0.02*r.Float64()
			}
			if k%2 == 0 {
				target = Target{MaxBytes: some.FileBytes + int64(r.IntN(24)) - 8, Of: OfModel}
				within = func(size Size) bool { return size.FileBytes <= target.MaxBytes }
			}
			want := math.Inf(1)
			for i, size := range sizes {
				if within(size) {
					want = min(want, costs[i])
				}
			}
			p, err := MakePlan(s, PlanOptions{Target: target})
			if math.IsInf(want, 1) {
				wantFault(t, err, fault.Infeasible, "cannot be reached")
				continue
			}
			if err != nil {
				t.Fatalf("%v: %v", target, err)
			}
			plans++
			widths, err := p.Widths("plan.json", shape)
			if err != nil {
				t.Fatal(err)
			}
			size, err := shape.Measure(p.Storage(), widths)
			if err != nil || !within(size) || size.FileBytes != p.Bytes || size.BPW != p.BPW {
				t.Errorf("%v: %+v, the plan says %d and %v, %v", target, size, p.Bytes, p.BPW, err)
			}
			if !p.Optimal || math.Abs(p.Cost-want) > 1e-12*want || p.LowerBound > want*(1+1e-12) {
				t.Errorf("%v: cost %v, bound %v, optimal %v; the optimum is %v", target, p.Cost, p.LowerBound, p.Optimal, want)
			}
			for _, b := range p.Baselines {
				if b.Cost < want*(1-1e-12) {
					t.Errorf("%v: %s costs %v, less than the optimum %v", target, b.Name, b.Cost, want)
				}
			}
			sum := 0.0
			for _, l := range p.Layers {
				sum += l.Cost
				if l.Name == "model.embed_tokens" && l.Form == artifact.RowInt8 {
					rows++
				} else if l.Name == "model.embed_tokens" {
					palettes++
				}
			}
			if math.Abs(sum-p.Cost) > 1e-12*want {
				t.Errorf("layers cost %v, the plan %v", sum, p.Cost)
			}
			data, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParsePlan("plan.json", data)
			if err != nil {
				t.Fatal(err)
			}
			if w, err := again.Widths("plan.json", shape); err != nil || len(w) != len(widths) || w["model.embed_tokens"] != widths["model.embed_tokens"] {
				t.Errorf("read back: %v, %v", w, err)
			}
		}
	}
	if plans < 200 || palettes < 20 || rows < 20 {
		t.Errorf("%d plans, %d with a palettized embedding and %d with rows of int8", plans, palettes, rows)
	}
}

// Without OfModel, scores of embedding and head change no plan.
func TestEndsOfProjections(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 5 {
		s, shape := randomScores(t, r)
		for _, target := range []Target{{BPW: 5}, {MaxBytes: 1 << 20}} {
			plain, err := MakePlan(s, PlanOptions{Target: target})
			if fault.KindOf(err) == fault.Infeasible {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			with := *s
			addEnds(&with, shape, r)
			p, err := MakePlan(&with, PlanOptions{Target: target})
			if err != nil {
				t.Fatal(err)
			}
			a, _ := plain.Encode()
			if b, err := p.Encode(); err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s\n%s", a, b)
			}
		}
	}
}

// A pinned embedding keeps what the override says, and counts in the budget of the model; an export
// target has only its widths, and rows of int8 where a table would be of fewer rows.
func TestEndsPinnedAndTargeted(t *testing.T) {
	s := score(t, 2, withEnds(t, Weight, 2, 3, 4))
	widthOf := func(o PlanOptions) Width {
		t.Helper()
		p, err := MakePlan(s, o)
		if err != nil {
			t.Fatal(err)
		}
		shape, err := s.Shape()
		if err != nil {
			t.Fatal(err)
		}
		w, err := p.Widths("plan.json", shape)
		if err != nil {
			t.Fatal(err)
		}
		if b := o.Target.BPW; p.BPW.Model > b {
			t.Errorf("%v bits per weight of at most %v", p.BPW.Model, b)
		}
		return w["model.embed_tokens"]
	}
	model := func(bpw float64) Target { return Target{BPW: bpw, Of: OfModel} }
	if w := widthOf(PlanOptions{Target: model(4.2), Overrides: []Override{{Pattern: "embed_tokens", Bits: 7}}}); w != (Width{artifact.Palette, 7}) {
		t.Errorf("pinned at 7 bits: %v", w)
	}
	if w := widthOf(PlanOptions{Target: model(6.5), Overrides: []Override{{Pattern: "embed_tokens", Bits: 16}}}); w != (Width{Form: artifact.Plain}) {
		t.Errorf("pinned at 16 bits: %v", w)
	}
	seen := map[Width]bool{}
	for bpw := 2.4; bpw < 5.2; bpw += 0.1 {
		w := widthOf(PlanOptions{Target: model(bpw), ExportTarget: "coreai-ios"})
		seen[w] = true
		if w.Bits == 5 {
			t.Errorf("%v: coreai-ios has no palettes of 5 bits", bpw)
		}
	}
	if len(seen) < 2 {
		t.Errorf("only %v", seen)
	}
	shape := nilShape(t)
	shape.Config.VocabSize = 60 // no multiple of 16
	for target, want := range map[string][]int{"": {2, 3, 4, 5, 6, 8}, "coreai-macos": {8}} {
		p, err := newPlanner(shape, Storage{16, true}, PlanOptions{Target: model(6), ExportTarget: target})
		if err != nil || !slices.Equal(p.ends["model.embed_tokens"], want) {
			t.Errorf("target %q: %v, %v", target, p.ends, err)
		}
	}
}

func mustShape(t *testing.T, s *Scores) *Shape {
	t.Helper()
	shape, err := s.Shape()
	if err != nil {
		t.Fatal(err)
	}
	return shape
}

// A plan says by a form where embedding or head are rows of int8; a projection cannot be.
func TestPlanOfInt8Rows(t *testing.T) {
	s := score(t, 2, withEnds(t, Weight, 2, 4))
	p, err := MakePlan(s, PlanOptions{Target: Target{BPW: 4.5, Of: OfModel}})
	if err != nil {
		t.Fatal(err)
	}
	shape := mustShape(t, s)
	last := len(p.Layers) - 1
	p.Target = nil
	for _, c := range []struct {
		layer int
		form  artifact.Form
		bits  int
		part  string
	}{
		{last, artifact.RowInt8, 8, ""},
		{last, artifact.RowInt8, 4, "int8_row has 8 bits"},
		{0, artifact.RowInt8, 8, "only embedding and head"},
		{last, "q9_k", 8, "no grid"},
		{last, "q4_0", 4, "no form, but others have forms"},
	} {
		q := *p
		q.RowScale = c.form == artifact.RowInt8
		if !q.RowScale {
			q.Bits = nil
		}
		q.Layers = slices.Clone(p.Layers)
		q.Layers[c.layer].Form, q.Layers[c.layer].Bits = c.form, c.bits
		data, err := q.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePlan("plan.json", data)
		if err == nil {
			_, err = again.Widths("plan.json", shape)
		}
		if c.part == "" && err != nil {
			t.Error(err)
		} else if c.part != "" {
			wantFault(t, err, fault.Input, "plan.json", c.part)
		}
	}
}

// Rows of int8 are packed as the artifact stores them.
func TestInt8RowsOfScorer(t *testing.T) {
	pool := newPool(t, 2)
	ckpt, err := safetensors.OpenCheckpoint(tinyModel)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	src, _ := ckpt.Tensor("model.embed_tokens.weight")
	sc := &scorer{pool: pool, ends: endWidths([]int{8}), group: 16}
	p, squares, err := sc.quantize(&module{spec: model.TensorSpec{Shape: src.Shape}, src: src, end: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	q, scale, want, _, err := artifact.QuantizeRows(pool, src)
	if err != nil || squares != want {
		t.Fatalf("squared error %v, want %v, %v", squares, want, err)
	}
	got := make([]float32, src.Shape[1])
	for r := range src.Shape[0] {
		p.Row(got, r)
		for c, v := range got {
			if w := float32(int8(q[r*len(got)+c])) * scale[r]; v != w {
				t.Fatalf("row %d, column %d: %v, want %v", r, c, v, w)
			}
		}
	}
}
