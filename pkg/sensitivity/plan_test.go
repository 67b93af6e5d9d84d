package sensitivity

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// scored is the tiny model's scores by weight at 2, 3, 4 and 8 bits.
func scored(t testing.TB) (*Scores, *Shape) {
	t.Helper()
	o := options(t, Weight, 2, 3, 4, 8)
	o.Out = filepath.Join(t.TempDir(), "s.json")
	if _, err := Score(bg, o); err != nil {
		t.Fatal(err)
	}
	s, err := ReadScores(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	shape, err := s.Shape()
	if err != nil {
		t.Fatal(err)
	}
	return s, shape
}

// TestPlanKeepsItsTarget: never above, and within the largest step of one module below.
func TestPlanKeepsItsTarget(t *testing.T) {
	s, shape := scored(t)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 60 {
		req := PlanOptions{Bits: [][]int{{2, 4}, {2, 3, 4}, {2, 3, 4, 8}}[i%3]}
		if i%4 == 0 {
			req.Ties = []Tie{TieQKV, TieGateUp}
		}
		least, most, err := reach(s, shape, req)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			req.Target.BPW = least.BPW.Projections + r.Float64()*(most.BPW.Projections-least.BPW.Projections)
		} else {
			req.Target.MaxBytes = least.FileBytes + 8 + r.Int64N(most.FileBytes-least.FileBytes)
		}
		p, err := MakePlan(s, req)
		if err != nil {
			t.Fatalf("%+v: %v", req, err)
		}
		step := 0.0 // the largest rise of one choice, in bits per weight
		for _, spec := range projectionSpecs(shape.Config) {
			n := float64(spec.Shape[0]*spec.Shape[1]) * float64(req.Bits[len(req.Bits)-1]-2) / float64(projectionWeights(shape))
			if len(req.Ties) > 0 {
				n *= 3
			}
			step = max(step, n*1.1)
		}
		if b := req.Target.BPW; b > 0 && (p.BPW.Projections > b || p.BPW.Projections < b-step) {
			t.Errorf("target %v: %v", b, p.BPW.Projections)
		}
		if b := req.Target.MaxBytes; b > 0 && (p.Bytes > b || float64(p.Bytes) < float64(b)-step*float64(projectionWeights(shape))/8) {
			t.Errorf("at most %v bytes: %v", b, p.Bytes)
		}
		if !p.Optimal || p.Cost != p.LowerBound {
			t.Errorf("target %v: cost %v, bound %v", req.Target, p.Cost, p.LowerBound)
		}
		for _, b := range p.Baselines {
			if b.Name != "more widths" && b.Cost < p.Cost*(1-1e-12) {
				t.Errorf("target %v: %s costs %v, the plan %v", req.Target, b.Name, b.Cost, p.Cost)
			}
		}
		widths, err := p.Widths("plan.json", shape)
		if err != nil {
			t.Fatal(err)
		}
		if size, err := shape.Measure(p.Storage(), widths); err != nil || size.FileBytes != p.Bytes || size.BPW != p.BPW {
			t.Errorf("the plan has %d bytes, measured %d (%v)", p.Bytes, size.FileBytes, err)
		}
	}
}

func projectionWeights(shape *Shape) (n int64) {
	for _, s := range projectionSpecs(shape.Config) {
		n += int64(s.Shape[0] * s.Shape[1])
	}
	return n
}

func reach(s *Scores, shape *Shape, r PlanOptions) (least, most Size, err error) {
	r.Target.BPW = 1
	p, err := newPlanner(shape, Storage{s.GroupRows, s.RowScale}, r)
	if err != nil {
		return least, most, err
	}
	if least, err = p.measure(p.uniform(0)); err == nil {
		most, err = p.measure(p.uniform(len(r.Bits) - 1))
	}
	return least, most, err
}

func TestPlanTiesAndPins(t *testing.T) {
	s, _ := scored(t)
	p, err := MakePlan(s, PlanOptions{
		Target: Target{BPW: 3.3}, Bits: []int{2, 4}, Ties: []Tie{TieQKV, TieGateUp},
		Overrides: []Override{{Pattern: `layers\.0\..*down_proj`, Bits: 8}, {Pattern: `layers\.3\..*o_proj`, Bits: 16}},
	})
	if err != nil {
		t.Fatal(err)
	}
	bits := map[string]int{}
	for _, l := range p.Layers {
		bits[l.Name] = l.Bits
		if pinned := l.Bits == 8 || l.Bits == 16; pinned != l.Pinned {
			t.Errorf("%+v", l)
		}
	}
	if bits["model.layers.0.mlp.down_proj"] != 8 || bits["model.layers.3.self_attn.o_proj"] != 16 || len(bits) != 28 {
		t.Errorf("%v", bits)
	}
	for _, layer := range []string{"0", "1", "2", "3"} {
		a := "model.layers." + layer + ".self_attn."
		m := "model.layers." + layer + ".mlp."
		if bits[a+"q_proj"] != bits[a+"k_proj"] || bits[a+"q_proj"] != bits[a+"v_proj"] || bits[m+"gate_proj"] != bits[m+"up_proj"] {
			t.Errorf("layer %s: tied modules differ: %v", layer, bits)
		}
	}
	if p.BPW.Projections > 3.3 {
		t.Errorf("%v bits per weight", p.BPW.Projections)
	}
	if i := slices.IndexFunc(p.Baselines, func(b Baseline) bool { return b.Name == "more widths" }); i < 0 || p.Baselines[i].Cost > p.Cost {
		t.Errorf("baselines %+v", p.Baselines)
	}
}

// TestDefaultPlan: the zero value of the options is the plan with the documented target from
// all widths.
func TestDefaultPlan(t *testing.T) {
	s, _ := scored(t)
	p, err := MakePlan(s, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	q, err := MakePlan(s, PlanOptions{Target: Target{BPW: 3.5}, Bits: []int{2, 3, 4, 8}})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p, q) || p.BPW.Projections > 3.5 || p.BPW.Projections < 3.4 {
		t.Errorf("%+v, want %+v", p, q)
	}
}

func TestPlanRefuses(t *testing.T) {
	s, shape := scored(t)
	for name, c := range map[string]struct {
		r     PlanOptions
		kind  fault.Kind
		parts []string
	}{
		"too few bits":   {PlanOptions{Target: Target{BPW: 1.9}}, fault.Infeasible, []string{"1.9", "2.1276", "9.7347"}},
		"too few bytes":  {PlanOptions{Target: Target{MaxBytes: 1000}}, fault.Infeasible, []string{"1,000 bytes"}},
		"negative":       {PlanOptions{Target: Target{BPW: -1}}, fault.Usage, []string{"-1"}},
		"two targets":    {PlanOptions{Target: Target{BPW: 3, MaxBytes: 1}}, fault.Usage, []string{"either"}},
		"not scored":     {PlanOptions{Target: Target{BPW: 3}, Bits: []int{2, 6}}, fault.Usage, []string{"6 bits"}},
		"no such module": {PlanOptions{Target: Target{BPW: 3}, Overrides: []Override{{Pattern: "q_porj", Bits: 2}}}, fault.Usage, []string{"q_porj", "q_proj"}},
		"split tie":      {PlanOptions{Target: Target{BPW: 3}, Ties: []Tie{TieQKV}, Overrides: []Override{{Pattern: "q_proj", Bits: 2}}}, fault.Usage, []string{"tied"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := MakePlan(s, c.r)
			wantFault(t, err, c.kind, c.parts...)
			if len(c.r.Bits) == 0 {
				c.r.Bits = s.Bits
			}
			if _, e := Feasible(shape, Storage{16, true}, c.r); name != "not scored" && fault.KindOf(e) != c.kind {
				t.Errorf("before any score: %v", e)
			}
		})
	}
}

// TestEditedPlan: a person's edits count, and are checked.
func TestEditedPlan(t *testing.T) {
	s, shape := scored(t)
	p, err := MakePlan(s, PlanOptions{Target: Target{BPW: 3.3}, Bits: []int{2, 4}, Ties: []Tie{TieGateUp}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "plan.json")
	if err := p.Write(path); err != nil {
		t.Fatal(err)
	}
	wantFault(t, p.Write(path), fault.Output, "already exists")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	edit := func(old, new string) (map[string]Width, error) {
		t.Helper()
		if !strings.Contains(text, old) {
			t.Fatalf("the plan has no %q", old)
		}
		q, err := ParsePlan("plan.json", []byte(strings.Replace(text, old, new, 1)))
		if err != nil {
			return nil, err
		}
		return q.Widths("plan.json", shape)
	}
	layer := func(name string) string {
		for _, l := range p.Layers {
			if l.Name == name && l.Bits == 4 {
				return "\"name\": \"" + name + "\",\n   \"bits\": 4"
			}
		}
		return ""
	}
	var four string
	for _, l := range p.Layers {
		if l.Bits == 4 && !strings.Contains(l.Name, "mlp") {
			four = l.Name
			break
		}
	}
	w, err := edit(layer(four), strings.Replace(layer(four), "4", "3", 1))
	if strings.Contains(four, "layers.4") {
		t.Fatal("the edit would hit the name")
	}
	if err != nil || w[four].Bits != 3 {
		t.Errorf("fewer bits for %s: %v, %v", four, w[four], err)
	}
	_, err = edit(`"bits": 2`, `"bits": 8`)
	if err == nil {
		t.Error("more bits than the target allows, or an untied pair, are accepted")
	}
	for old, part := range map[string][2]string{
		`"name": "` + four + `"`:       {`"name": "model.layers.0.self_attn.x_proj"`, "not a projection of the model; the nearest names are model.layers.0.self_attn."},
		`"schema": "afmq.plan/v1"`:     {`"schema": "afmq.plan/v2"`, "schema"},
		`"group_rows": 16`:             {`"group_rows": 0`, "group_rows"},
		`"bits": 2`:                    {`"bits": 12`, "bits is 12"},
		`"layers": [`:                  {`"layer": [`, "layer"},
		`"name": "` + p.Layers[1].Name: {`"name": "` + p.Layers[0].Name, "listed twice"},
	} {
		_, err := edit(old, part[0])
		wantFault(t, err, fault.Input, "plan.json", part[1])
	}
	// By hand, with nothing but what is needed.
	var b strings.Builder
	b.WriteString(`{"schema":"afmq.plan/v1","group_rows":16,"row_scale":false,"layers":[`)
	for i, l := range p.Layers {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(`{"name":"` + l.Name + `","bits":16}`)
	}
	b.WriteString("]}")
	q, err := ParsePlan("hand.json", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Widths("hand.json", shape); err != nil {
		t.Error(err)
	}
	q.Layers = q.Layers[1:]
	_, err = q.Widths("hand.json", shape)
	wantFault(t, err, fault.Input, "hand.json", "not in the plan")
}

func FuzzParsePlan(f *testing.F) {
	s, shape := scored(f)
	p, err := MakePlan(s, PlanOptions{Target: Target{BPW: 3}})
	if err != nil {
		f.Fatal(err)
	}
	data, err := p.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"schema":"afmq.plan/v1","group_rows":1,"layers":[{"name":"lm_head","bits":4}]}`))
	f.Add([]byte(`{"schema":"afmq.plan/v1","group_rows":1,"target":{"bpw":4,"of":"model"},"layers":[{"name":"model.embed_tokens","bits":8,"form":"int8_row"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePlan("plan.json", data)
		if err == nil {
			_, err = p.Widths("plan.json", shape)
		}
		if err != nil && fault.KindOf(err) != fault.Input {
			t.Fatalf("%v is no error of input", err)
		}
	})
}
