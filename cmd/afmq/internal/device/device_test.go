package device

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/sensitivity"
)

// small is a model whose sums can be done by hand: two layers, hidden 16, 4 query and 2
// key-value heads of 8, feed-forward 32, vocabulary 100, all in F16.
func small(t *testing.T, tied bool) (*model.Config, []artifact.StoredTensor) {
	t.Helper()
	c := &model.Config{
		ModelType: "llama", HiddenSize: 16, IntermediateSize: 32, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 8,
		VocabSize: 100, MaxPositions: 64, TieEmbeddings: tied,
	}
	var stored []artifact.TensorDigest
	for _, spec := range c.Tensors() {
		stored = append(stored, artifact.TensorDigest{Name: spec.Name, DType: "F16", Shape: spec.Shape})
	}
	layout, err := artifact.StoredLayout(c, 16, stored)
	if err != nil {
		t.Fatal(err)
	}
	return c, layout
}

// TestWorkByHand: a layer has q 32·16, k and v 16·16, o 16·32, gate, up and down 32·16
// weights, 3,072; norms 2·16, and 16 at the end.
func TestWorkByHand(t *testing.T) {
	c, layout := small(t, true)
	want := Work{WeightBytes: 2 * (6144 + 1600 + 80), StepBytes: 2 * (6144 + 1600 + 80), LayerOps: 6144, HeadOps: 1600, PairOps: 2 * 2 * 4 * 8, KVValues: 2 * 2 * 2 * 8}
	if got := NewWork(c, layout); got != want {
		t.Errorf("tied: %+v, expected %+v", got, want)
	}
	c, layout = small(t, false)
	want.WeightBytes += 2 * 1600
	want.StepBytes += 2 * 16 // one row of the embedding, beside the head
	if got := NewWork(c, layout); got != want {
		t.Errorf("untied: %+v, expected %+v", got, want)
	}
}

func TestEstimateByHand(t *testing.T) {
	c, layout := small(t, true)
	w := NewWork(c, layout)
	for _, test := range []struct {
		bandwidth, compute, memory float64
		kvBits                     int
		want                       Estimate
	}{
		{1e6, 1e6, 18208, 16, Estimate{
			WeightBytes: 15648, KVBytes: 20 * 128, TotalBytes: 18208, Fits: true,
			FirstToken: 2 * (10*6144 + 1600 + 55*128) / 1e6, FirstTokenBound: Compute,
			Decode: 1e6 / (2 * (7744 + 11*128)), DecodeFull: 1e6 / (2 * (7744 + 20*128)), DecodeBound: Compute,
		}},
		{1e6, 1e9, 18207, 16, Estimate{
			WeightBytes: 15648, KVBytes: 2560, TotalBytes: 18208, Fits: false,
			FirstToken: 15648 / 1e6, FirstTokenBound: Memory,
			Decode: 1e6 / (15648 + 10*128.0), DecodeFull: 1e6 / (15648 + 19*128.0), DecodeBound: Memory,
		}},
		{1e6, 1e9, 1e9, 8, Estimate{
			WeightBytes: 15648, KVBytes: 1280, TotalBytes: 16928, Fits: true,
			FirstToken: 15648 / 1e6, FirstTokenBound: Memory,
			Decode: 1e6 / (15648 + 10*64.0), DecodeFull: 1e6 / (15648 + 19*64.0), DecodeBound: Memory,
		}},
	} {
		p := &Profile{Bandwidth: Figure{Value: test.bandwidth}, Compute: Figure{Value: test.compute}, Memory: Figure{Value: test.memory}, KVBits: test.kvBits}
		got := p.Estimate(w, Use{Ctx: 20, Prompt: 10})
		for _, f := range []struct {
			name      string
			got, want *float64
		}{{"first token", &got.FirstToken, &test.want.FirstToken}, {"decode", &got.Decode, &test.want.Decode}, {"full", &got.DecodeFull, &test.want.DecodeFull}} {
			if math.Abs(*f.got / *f.want - 1) > 1e-12 {
				t.Errorf("%s is %v, expected %v", f.name, *f.got, *f.want)
			}
			*f.got = *f.want
		}
		if got != test.want {
			t.Errorf("%+v, expected %+v", got, test.want)
		}
	}
}

// TestWindowByHand: one of the two layers sees 6 positions, so that a prompt of 10 has
// 1+2+3+4+5+6+6+6+6+6 = 45 pairs in it.
func TestWindowByHand(t *testing.T) {
	c, layout := small(t, true)
	c.SlidingWindow, c.Sliding = 6, []bool{false, true}
	w := NewWork(c, layout)
	if w.PairOps != 64 || w.KVValues != 32 || w.WindowPairOps != 64 || w.WindowKVValues != 32 || w.Window != 6 {
		t.Fatalf("%+v", w)
	}
	p := &Profile{Bandwidth: Figure{Value: 1e6}, Compute: Figure{Value: 1e6}, Memory: Figure{Value: 1e9}, KVBits: 16}
	for _, test := range []struct {
		compute                  float64
		use                      Use
		kv                       int64
		first, decode, whenWhole float64
	}{
		{1e6, Use{20, 10}, 64 * (20 + 6), 2 * (10*6144 + 1600 + (55+45)*64) / 1e6, 1e6 / (2 * (7744 + (11+6)*64)), 1e6 / (2 * (7744 + (20+6)*64))},
		{1e12, Use{20, 10}, 64 * (20 + 6), 15648 / 1e6, 1e6 / (15648 + (10+5)*64.0), 1e6 / (15648 + (19+5)*64.0)},
		{1e6, Use{5, 4}, 64 * (5 + 5), 2 * (4*6144 + 1600 + (10+10)*64) / 1e6, 1e6 / (2 * (7744 + (5+5)*64)), 1e6 / (2 * (7744 + (5+5)*64))},
		{1e12, Use{5, 3}, 64 * (5 + 5), 15648 / 1e6, 1e6 / (15648 + (3+3)*64.0), 1e6 / (15648 + (4+4)*64.0)},
	} {
		p.Compute.Value = test.compute
		e := p.Estimate(w, test.use)
		if e.KVBytes != test.kv || e.TotalBytes != 15648+test.kv {
			t.Errorf("%+v: keys and values take %d bytes of %d, expected %d", test.use, e.KVBytes, e.TotalBytes, test.kv)
		}
		for _, f := range [][2]float64{{e.FirstToken, test.first}, {e.Decode, test.decode}, {e.DecodeFull, test.whenWhole}} {
			if math.Abs(f[0]/f[1]-1) > 1e-12 {
				t.Errorf("%+v at %v FLOP/s: %v, expected %v", test.use, test.compute, f[0], f[1])
			}
		}
	}
}

func TestUse(t *testing.T) {
	c := &model.Config{MaxPositions: 1000}
	for _, test := range []struct {
		in, want Use
		err      string
	}{
		{Use{}, Use{1000, 250}, ""},
		{Use{Ctx: 100}, Use{100, 25}, ""},
		{Use{Prompt: 600}, Use{1000, 600}, ""},
		{Use{Ctx: 1}, Use{1, 1}, ""},
		{Use{Ctx: 1001}, Use{}, "--ctx 1001 exceeds the 1000 positions"},
		{Use{Ctx: 100, Prompt: 101}, Use{}, "--prompt 101 is not between 1 and the context of 100"},
		{Use{Prompt: 1001}, Use{}, "--prompt 1001 is not between"},
		{Use{Ctx: -1}, Use{}, "--ctx -1"},
		{Use{Ctx: 10, Prompt: -1}, Use{}, "--prompt -1"},
	} {
		got, err := test.in.Resolve(c)
		if test.err == "" && (err != nil || got != test.want) || test.err != "" && (fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%+v: %+v, %v, expected %+v %q", test.in, got, err, test.want, test.err)
		}
	}
	if got, err := (Use{}).Resolve(&model.Config{MaxPositions: 1 << 17}); err != nil || got != (Use{4096, 1024}) {
		t.Errorf("a long model is used with %+v, %v", got, err)
	}
}

// TestCarriedProfiles checks that each profile is whole, and says where its figures are
// from.
func TestCarriedProfiles(t *testing.T) {
	if len(Names()) < 5 {
		t.Errorf("there are only %v", Names())
	}
	all, err := LoadAll(Names())
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range all {
		if p.Name != Names()[i] {
			t.Errorf("%s.json is called %q", Names()[i], p.Name)
		}
		for _, f := range []Figure{p.Bandwidth, p.Compute} {
			if !strings.Contains(f.Source, "http") {
				t.Errorf("%s: %v %s has no public source: %q", p.Name, f.Value, f.Unit, f.Source)
			}
		}
	}
}

const aProfile = `{"schema":"afmq.device/v1","name":"mine","title":"My machine","bandwidth":{"value":1e10,"unit":"B/s","source":"measured"},
"compute":{"value":1e11,"unit":"FLOP/s","source":"measured"},"arithmetic":"fp32","memory":{"value":1e9,"unit":"B","source":"half of it"},"kv_bits":32}`

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mine.json")
	if err := os.WriteFile(path, []byte(aProfile), 0o666); err != nil {
		t.Fatal(err)
	}
	p, err := Load(path)
	if err != nil || p.Name != "mine" || p.Bandwidth.Value != 1e10 || p.KVBits != 32 {
		t.Errorf("%+v, %v", p, err)
	}
	for what, c := range map[string]struct {
		names []string
		kind  fault.Kind
		want  string
	}{
		"unknown":   {[]string{"toaster"}, fault.Usage, `device "toaster" is unknown; the devices are `},
		"missing":   {[]string{filepath.Join(dir, "none.json")}, fault.Input, "none.json: is missing"},
		"directory": {[]string{dir}, fault.Input, "is a directory; expected a file"},
		"twice":     {[]string{path, path}, fault.Usage, `device "mine" is given twice`},
	} {
		if _, err := LoadAll(c.names); err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, expected %q", what, err, c.want)
		}
	}
}

func TestWrongProfiles(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"device/v1", "device/v9", "schema"},
		{`"mine"`, `"My Machine"`, "name"},
		{`"My machine"`, `""`, "title"},
		{`"B/s"`, `"GB/s"`, `bandwidth: unit is "GB/s"`},
		{`"value":1e11`, `"value":0`, "compute: 0 FLOP/s"},
		{`"value":1e11`, `"value":1e300`, "compute: 1e+300 FLOP/s"},
		{`"value":1e9`, `"value":-5`, "memory: -5 B"},
		{`"half of it"`, `" "`, "memory: source is empty"},
		{`"kv_bits":32`, `"kv_bits":4`, "kv_bits is 4"},
		{`"kv_bits":32`, `"colour":32`, "unknown field"},
		{`"kv_bits":32`, `"kv_bits":32,"kv_bits":32`, "duplicate key"},
		{aProfile, `hello`, "not valid JSON"},
	} {
		_, err := Parse("p.json", []byte(strings.Replace(aProfile, c.old, c.new, 1)))
		if err == nil || fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), "p.json: is not a device profile: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, expected %q", c.new, err, c.want)
		}
	}
}

func FuzzProfile(f *testing.F) {
	f.Add([]byte(aProfile))
	for _, name := range Names() {
		text, err := Text(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	w := Work{WeightBytes: 1000, StepBytes: 1000, LayerOps: 500, HeadOps: 10, PairOps: 4, KVValues: 8}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("p", data)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatal(err)
			}
			return
		}
		e := p.Estimate(w, Use{Ctx: 10, Prompt: 5})
		if !(e.FirstToken > 0) || !(e.Decode >= e.DecodeFull) || math.IsInf(e.Decode, 0) {
			t.Fatalf("%+v from %+v", e, p)
		}
		if _, err := json.Marshal(e); err != nil {
			t.Fatal(err)
		}
	})
}

// TestNeighbours checks the order, names and notes of neighbours, and that the options of a
// plan can be recovered from it.
func TestNeighbours(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "model")
	if err := demo.Extract(model); err != nil {
		t.Fatal(err)
	}
	scored, err := sensitivity.Score(context.Background(), sensitivity.Options{Model: model, Method: sensitivity.Weight, Bits: []int{2, 3, 4}})
	if err != nil {
		t.Fatal(err)
	}
	s := scored.Scores
	shape, err := s.Shape()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		bpw   float64
		names string
		notes int
	}{
		{3.25, "-0.50 -0.25 plan +0.25 +0.50", 0},
		{2.3, "plan +0.25 +0.50", 2},
		{2.55, "-0.25 plan +0.25 +0.50", 1},
		{3.9, "-0.50 -0.25 plan +0.25 +0.50", 0}, // +0.50 is all that there is
		{4.3, "-0.50 -0.25 plan", 2},             // the most is there already
	} {
		r := sensitivity.PlanOptions{Target: sensitivity.Target{BPW: test.bpw}, Ties: []sensitivity.Tie{"qkv"}, Overrides: []sensitivity.Override{Pin("model.layers.1.mlp.up_proj", 4)}}
		p, err := sensitivity.MakePlan(s, r)
		if err != nil {
			t.Fatal(err)
		}
		w, err := PlanWork(p, shape)
		if err != nil {
			t.Fatal(err)
		}
		// From the plan alone the same request can be made again.
		again := Repeat(p)
		again.Target = r.Target
		if q, err := sensitivity.MakePlan(s, again); err != nil || q.Cost != p.Cost || q.BPW.Projections != p.BPW.Projections {
			t.Errorf("%v bits: repeated, the plan costs %v, not %v, %v", test.bpw, q.Cost, p.Cost, err)
		}
		variants, notes, err := Neighbours(Variant{Name: "plan", BPW: p.BPW.Projections, Cost: &p.Cost, Work: w}, test.bpw, s, Repeat(p))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for i, v := range variants {
			names = append(names, v.Name)
			if i > 0 && (v.BPW <= variants[i-1].BPW || *v.Cost > *variants[i-1].Cost || v.Work.WeightBytes <= variants[i-1].Work.WeightBytes) {
				t.Errorf("%v bits: %+v follows %+v", test.bpw, v, variants[i-1])
			}
			if v.Work.LayerOps != w.LayerOps || v.Work.HeadOps != w.HeadOps {
				t.Errorf("%v bits: the work depends on the plan: %+v, %+v", test.bpw, v.Work, w)
			}
		}
		if strings.Join(names, " ") != test.names || len(notes) != test.notes {
			t.Errorf("%v bits: %v with notes %q, expected %s and %d", test.bpw, names, notes, test.names, test.notes)
		}
	}
}
