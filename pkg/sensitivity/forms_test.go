package sensitivity

import (
	"math"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// Affine grids quantize embedding and head with at least 4 bits, integers leave them; columns that a
// group does not divide get a smaller one.
func TestFormWidthsOfGroups(t *testing.T) {
	cfg := tinyConfig(t, false)
	cfg.HiddenSize, cfg.IntermediateSize = 192, 160
	w, notes, err := FormWidths(cfg, "affine3_g64", []Override{{Pattern: `layers\.0\..*q_proj`, Bits: 6}, {Pattern: "o_proj", Form: "affine2_g32"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]artifact.Form{
		"model.embed_tokens": "affine4_g64", "lm_head": "affine4_g64", "model.layers.0.self_attn.q_proj": "affine6_g64",
		"model.layers.1.self_attn.q_proj": "affine3_g64", "model.layers.1.mlp.down_proj": "affine3_g32",
	} {
		if w[name].Form != want {
			t.Errorf("%s is %v, want %s", name, w[name], want)
		}
	}
	if !slices.ContainsFunc(notes, func(s string) bool {
		return strings.Contains(s, "down_proj and 1 more module: affine3_g32 instead of affine3_g64: 160 columns are not a multiple of 64")
	}) {
		t.Errorf("notes %q", notes)
	}
	w, _, err = FormWidths(cfg, "asymmetric4_g128", []Override{{Pattern: "lm_head", Bits: 8}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]artifact.Form{
		"model.embed_tokens": artifact.Plain, "lm_head": "asymmetric8_g64", "model.layers.1.mlp.down_proj": "asymmetric4_g32", "model.layers.1.mlp.up_proj": "asymmetric4_g64",
	} {
		if w[name].Form != want {
			t.Errorf("%s is %v, want %s", name, w[name], want)
		}
	}
	for _, c := range []struct {
		form artifact.Form
		o    Override
		want string
	}{
		{"symmetric4_g128", Override{Pattern: "embed", Bits: 8}, "keeps an embedding at 16 bits"},
		{"symmetric4_g128", Override{Pattern: "k_proj", Bits: 8}, "vLLM fuses them"},
		{"symmetric4_g128", Override{Pattern: "up_proj", Bits: 16}, "vLLM fuses them"},
		{"affine4_g64", Override{Pattern: "k_proj", Bits: 7}, "has no codes of 7 bits"},
		{"affine4_g64", Override{Pattern: "k_proj", Form: "q4_k"}, "belongs to --grid gguf"},
	} {
		_, _, err := FormWidths(cfg, c.form, []Override{c.o})
		wantFault(t, err, fault.Usage, c.want)
	}
}

// formScores returns scores of forms of ggml that are made up.
func formScores(t *testing.T, forms ...artifact.Form) (*Scores, *Shape) {
	t.Helper()
	s, shape := scored(t)
	out := *s
	out.Bits, out.Forms, out.RowScale, out.Modules = nil, forms, false, nil
	for i, m := range s.Modules {
		m.Costs = nil
		for o := range forms {
			m.Costs = append(m.Costs, math.Exp(-2*float64(o))*(1+math.Abs(math.Sin(float64(7*i+3*o)))))
		}
		out.Modules = append(out.Modules, m)
	}
	return &out, shape
}

// A plan of forms costs no more than any choice for three modules that brute force finds, keeps the
// bound on the container to the byte, and is what its own layers say.
func TestPlanOfForms(t *testing.T) {
	forms := []artifact.Form{"q4_0", "q5_0", "q8_0"}
	s, shape := formScores(t, forms...)
	free := []string{"layers.0.mlp.down_proj", "layers.1.self_attn.q_proj", "layers.2.mlp.up_proj", "layers.3.self_attn.o_proj"}
	var pinned []Override
	for _, spec := range projectionSpecs(shape.Config) {
		if !slices.ContainsFunc(free, func(n string) bool { return strings.HasSuffix(spec.Module(), n) }) {
			pinned = append(pinned, Override{Pattern: "^" + spec.Module() + "$", Form: "q4_0"})
		}
	}
	c := &Container{Name: "the file", Overhead: 12345, Align: 32}
	opts := PlanOptions{Target: Target{MaxBytes: 1 << 40}, Overrides: pinned, Container: c}
	p, err := newPlanner(shape, s.storage(), PlanOptions{Target: opts.Target, Overrides: pinned, Container: c, Forms: forms})
	if err != nil {
		t.Fatal(err)
	}
	choices := p.choices(s)
	least, err := p.measure(p.uniform(0))
	if err != nil {
		t.Fatal(err)
	}
	most, err := p.measure(p.uniform(2))
	if err != nil {
		t.Fatal(err)
	}
	for step := range int64(40) {
		opts.Target.MaxBytes = least.FileBytes + (most.FileBytes-least.FileBytes)*step/39
		plan, err := MakePlan(s, opts)
		if err != nil {
			t.Fatal(err)
		}
		best := math.Inf(1)
		picks := make([]int, len(choices))
		var search func(i int, cost float64)
		search = func(i int, cost float64) {
			if i == len(choices) {
				if size, err := p.measure(picks); err == nil && size.FileBytes <= opts.Target.MaxBytes {
					best = min(best, cost)
				}
				return
			}
			for o := range choices[i].Options {
				picks[i] = o
				search(i+1, cost+choices[i].Options[o].Cost)
			}
		}
		search(0, 0)
		if !plan.Optimal || math.Abs(plan.Cost-best) > 1e-12*best || plan.Bytes > opts.Target.MaxBytes {
			t.Fatalf("bound %d: cost %v of %d bytes, the best is %v", opts.Target.MaxBytes, plan.Cost, plan.Bytes, best)
		}
		data, err := plan.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePlan("plan.json", data)
		if err != nil {
			t.Fatal(err)
		}
		widths, err := again.Widths("plan.json", shape)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.bytes(shape, plan.Storage(), widths); err != nil || n != plan.Bytes {
			t.Errorf("the layers have %d bytes, the plan says %d (%v)", n, plan.Bytes, err)
		}
	}
}

// Where columns do not allow a form, the plan has the next one and says so; an edit that asks for it
// is refused, as are forms of another grid.
func TestPlanOfFormsFitsColumns(t *testing.T) {
	s, shape := formScores(t, "q2_k", "q6_k")
	plan, err := MakePlan(s, PlanOptions{Target: Target{BPW: 8.6}})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Notes) == 0 || !strings.Contains(plan.Notes[0], "instead of q6_k") {
		t.Errorf("notes %q", plan.Notes)
	}
	for _, l := range plan.Layers {
		if l.Form != "q8_0" {
			t.Errorf("%s has %s", l.Name, l.Form)
		}
	}
	if _, err := plan.Widths("plan.json", shape); err != nil {
		t.Fatal(err)
	}
	edit := func(form artifact.Form, bits int) *Plan {
		p := *plan
		p.Layers = slices.Clone(plan.Layers)
		p.Layers[2].Form, p.Layers[2].Bits = form, bits
		return &p
	}
	_, err = edit("q6_k", 6).Widths("plan.json", shape)
	wantFault(t, err, fault.Input, "q6_k needs columns that are a multiple of 256")
	_, err = edit("affine8_g32", 8).Widths("plan.json", shape)
	wantFault(t, err, fault.Input, "has form affine8_g32; another has one of --grid gguf")
	_, err = edit("", 4).Widths("plan.json", shape)
	wantFault(t, err, fault.Input, "4 bits and no form")
	data, err := edit("q8_0", 4).Encode()
	if err != nil {
		t.Fatal(err)
	}
	_, err = ParsePlan("plan.json", data)
	wantFault(t, err, fault.Input, "form q8_0 has 8 bits, but bits is 4")

	_, err = MakePlan(s, PlanOptions{Bits: []int{2}})
	wantFault(t, err, fault.Usage, "are not of palettes")
	_, err = MakePlan(s, PlanOptions{Forms: []artifact.Form{"q3_k"}})
	wantFault(t, err, fault.Usage, "q3_k was not scored")
	_, err = MakePlan(s, PlanOptions{Target: Target{BPW: 1}})
	wantFault(t, err, fault.Infeasible, "--grid gguf with q2_k,q6_k")
}

// Scores of forms are those of the weights that the forms stand for.
func TestScoreForms(t *testing.T) {
	o := options(t, Weight)
	o.Bits, o.Forms = nil, []artifact.Form{"affine6_g32", "affine2_g32", "affine3_g32"}
	r, err := Score(bg, o)
	if err != nil {
		t.Fatal(err)
	}
	s := r.Scores
	if want := []artifact.Form{"affine2_g32", "affine3_g32", "affine6_g32"}; !slices.Equal(s.Forms, want) || s.Bits != nil {
		t.Fatalf("forms %v, bits %v", s.Forms, s.Bits)
	}
	for _, m := range s.Modules {
		if !(m.Costs[0] > m.Costs[1] && m.Costs[1] > m.Costs[2] && m.Costs[2] > 0) {
			t.Errorf("%s: %v", m.Name, m.Costs)
		}
	}
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseScores("s.json", data); err != nil {
		t.Error(err)
	}
	for _, bad := range [][2]string{{`"affine3_g32"`, `"affine7_g32"`}, {`"affine3_g32"`, `"q4_k"`}, {`"affine3_g32"`, `"affine8_g32"`}} {
		if _, err := ParseScores("s.json", []byte(strings.Replace(string(data), bad[0], bad[1], 1))); fault.KindOf(err) != fault.Input {
			t.Errorf("%v: %v", bad, err)
		}
	}
	// Modules that vLLM fuses have one form.
	s.Forms = []artifact.Form{"symmetric2_g32", "symmetric3_g32", "symmetric8_g32"}
	plan, err := MakePlan(s, PlanOptions{Target: Target{BPW: 4}})
	if err != nil {
		t.Fatal(err)
	}
	form := map[string]artifact.Form{}
	for _, l := range plan.Layers {
		form[l.Name] = l.Form
	}
	for _, spec := range projectionSpecs(parseConfig(t, s)) {
		if spec.Kind == "k_proj" {
			for _, other := range []string{"q_proj", "v_proj"} {
				if name := strings.Replace(spec.Module(), "k_proj", other, 1); form[name] != form[spec.Module()] {
					t.Errorf("%s is %s, %s %s", name, form[name], spec.Module(), form[spec.Module()])
				}
			}
		}
	}
}

func parseConfig(t *testing.T, s *Scores) *model.Config {
	t.Helper()
	cfg, err := model.ParseConfig("config.json", []byte(s.Config))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A bound on model.safetensors is exact although the names of forms have different lengths: from the
// smallest file on, every budget has a plan that is at least as good as any uniform one that fits.
func TestFileBoundOfForms(t *testing.T) {
	s, shape := formScores(t, "iq4_nl", "q4_0", "q4_1", "q5_0")
	p, err := newPlanner(shape, s.storage(), PlanOptions{Target: Target{MaxBytes: 1 << 40}, Forms: s.Forms})
	if err != nil {
		t.Fatal(err)
	}
	choices := p.choices(s)
	uniform := map[int64]float64{} // cost by size
	for o := range s.Forms {
		size, err := p.measure(p.uniform(o))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range choices {
			uniform[size.FileBytes] += c.Options[o].Cost
		}
	}
	least, err := p.measure(p.least())
	if err != nil {
		t.Fatal(err)
	}
	most, err := p.measure(p.uniform(3))
	if err != nil {
		t.Fatal(err)
	}
	budgets := []int64{least.FileBytes, least.FileBytes + 1, least.FileBytes + 8, most.FileBytes - 8, most.FileBytes}
	for size := range uniform {
		budgets = append(budgets, size)
	}
	for i := range int64(30) {
		budgets = append(budgets, least.FileBytes+(most.FileBytes-least.FileBytes)*i/30/8*8)
	}
	for _, budget := range budgets {
		plan, err := MakePlan(s, PlanOptions{Target: Target{MaxBytes: budget}})
		if err != nil {
			t.Fatalf("%d bytes: %v", budget, err)
		}
		if plan.Bytes > budget {
			t.Errorf("%d bytes: the plan has %d", budget, plan.Bytes)
		}
		for size, cost := range uniform {
			if size <= budget && cost < plan.Cost*(1-1e-12) {
				t.Errorf("%d bytes: cost %v, but a file of %d bytes has %v", budget, plan.Cost, size, cost)
			}
		}
	}
	_, err = MakePlan(s, PlanOptions{Target: Target{MaxBytes: least.FileBytes - 1}})
	wantFault(t, err, fault.Infeasible, "cannot be reached")
}

func TestSortForms(t *testing.T) {
	got, err := sortForms([]artifact.Form{"q4_k", "q4_0", "q3_k", "iq4_nl", "q3_k", "q4_0"})
	if want := []artifact.Form{"q3_k", "iq4_nl", "q4_0", "q4_k"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// What the flags refuse is refused in a plan that was edited, too.
func TestEditedPlanOfForms(t *testing.T) {
	s, shape := formScores(t, "symmetric3_g32", "symmetric4_g32")
	plan, err := MakePlan(s, PlanOptions{Target: Target{BPW: 8}})
	if err != nil {
		t.Fatal(err)
	}
	plan.Target = nil
	for want, edit := range map[string]func(p *Plan){
		"row_scale is true":           func(p *Plan) { p.RowScale = true },
		"has palettes, but its layer": func(p *Plan) { p.ExportTarget = "coreai-ios" },
		"vLLM fuses them":             func(p *Plan) { p.Tie, p.Layers[0].Form, p.Layers[0].Bits = nil, "symmetric3_g32", 3 },
		"keeps an embedding at 16":    func(p *Plan) { l := &p.Layers[len(p.Layers)-1]; l.Form, l.Bits = "symmetric4_g32", 4 },
		"container: overhead":         func(p *Plan) { p.Container = &Container{Overhead: math.MaxInt64, Align: 32} },
		"not a form of a grid":        func(p *Plan) { p.Forms = []artifact.Form{"q4_k", "bogus"} },
	} {
		p := *plan
		p.Layers = slices.Clone(plan.Layers)
		edit(&p)
		data, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePlan("plan.json", data)
		if err == nil {
			_, err = again.Widths("plan.json", shape)
		}
		wantFault(t, err, fault.Input, want)
	}
}

// A plan from a part of the scored forms is made although all of them, with a larger embedding, would
// not fit; its baselines have its own embedding.
func TestPlanOfSomeForms(t *testing.T) {
	s, shape := formScores(t, "affine2_g32", "affine3_g32", "affine6_g32")
	opts := PlanOptions{Forms: []artifact.Form{"affine2_g32", "affine3_g32"}}
	some, err := newPlanner(shape, s.storage(), PlanOptions{Target: Target{MaxBytes: 1 << 40}, Forms: opts.Forms})
	if err != nil {
		t.Fatal(err)
	}
	all, err := newPlanner(shape, s.storage(), PlanOptions{Target: Target{MaxBytes: 1 << 40}, Forms: s.Forms})
	if err != nil {
		t.Fatal(err)
	}
	a, err := some.measure(some.least())
	if err != nil {
		t.Fatal(err)
	}
	b, err := all.measure(all.least())
	if err != nil {
		t.Fatal(err)
	}
	if a.FileBytes+1000 > b.FileBytes {
		t.Fatalf("%d and %d bytes: the embeddings do not differ enough for this test", a.FileBytes, b.FileBytes)
	}
	opts.Target.MaxBytes = b.FileBytes - 500
	plan, err := MakePlan(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range plan.Baselines {
		if x.Cost < plan.Cost*(1-1e-12) || x.Name == "more widths" {
			t.Errorf("baseline %+v beside a cost of %v", x, plan.Cost)
		}
	}
}
