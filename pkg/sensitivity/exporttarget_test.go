package sensitivity

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// scoredAll is the tiny model's scores by weight at 4, 5 and 7 bits.
func scoredAll(t *testing.T) (*Scores, *Shape) {
	t.Helper()
	r, err := Score(bg, options(t, Weight, 4, 5, 7))
	if err != nil {
		t.Fatal(err)
	}
	shape, err := r.Scores.Shape()
	if err != nil {
		t.Fatal(err)
	}
	return r.Scores, shape
}

// A plan for a target has none of the widths that the target lacks, and says so of widths that
// are asked for.
func TestPlanOfTarget(t *testing.T) {
	s, shape := scoredAll(t)
	free, err := MakePlan(s, PlanOptions{Target: Target{BPW: 6}})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(free.Bits) != "[4 5 7]" || free.ExportTarget != "" {
		t.Fatalf("without a target the plan chooses from %v", free.Bits)
	}
	p, err := MakePlan(s, PlanOptions{Target: Target{BPW: 6}, ExportTarget: "coreai-ios"})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(p.Bits) != "[4]" || p.ExportTarget != "coreai-ios" {
		t.Errorf("the plan for %q chooses from %v", p.ExportTarget, p.Bits)
	}
	for _, b := range p.Baselines {
		if b.Name == "more widths" {
			t.Errorf("the plan is compared with one that the target does not have: %+v", b)
		}
	}
	for _, c := range []struct {
		o     PlanOptions
		kind  fault.Kind
		parts []string
	}{
		{PlanOptions{Bits: []int{4, 5}, ExportTarget: "coreai-macos"}, fault.Infeasible, []string{"target coreai-macos", "5 bits"}},
		{PlanOptions{Target: Target{BPW: 6}, Overrides: []Override{{Pattern: "up_proj", Bits: 7}}, ExportTarget: "coreml-ios18"}, fault.Infeasible, []string{"mlp.up_proj has 7-bit"}},
		{PlanOptions{Bits: []int{4, 3, 7}, ExportTarget: "coreai-macos"}, fault.Infeasible, []string{"7 bits"}}, // 3 was not scored
		{PlanOptions{ExportTarget: "coreml"}, fault.Usage, []string{"coreml-ios18"}},
	} {
		_, err := MakePlan(s, c.o)
		wantFault(t, err, c.kind, c.parts...)
		_, err = Feasible(shape, s.storage(), c.o)
		wantFault(t, err, c.kind, c.parts...)
	}
	ragged := *s
	ragged.GroupRows = 24
	_, err = MakePlan(&ragged, PlanOptions{Target: Target{BPW: 6}, ExportTarget: "coreai-ios"})
	wantFault(t, err, fault.Infeasible, "not a multiple of 24")
	none, err := Score(bg, options(t, Weight, 5, 7))
	if err != nil {
		t.Fatal(err)
	}
	_, err = MakePlan(none.Scores, PlanOptions{ExportTarget: "coreai-ios"})
	wantFault(t, err, fault.Infeasible, "5 bits")
}

// The flags that reach a budget have no width that the target lacks.
func TestReachOfTarget(t *testing.T) {
	s, shape := scored(t)
	wide := PlanOptions{Target: Target{BPW: 4.9}, Bits: []int{2, 4}, ExportTarget: "coreai-ios"}
	line, err := Excess(shape, s.storage(), wide)
	if err != nil || !strings.Contains(line, "--bits 2,4,6 reaches") {
		t.Errorf("%s %v", line, err)
	}
	_, err = Feasible(shape, s.storage(), PlanOptions{Target: Target{BPW: 5.1}, Bits: []int{6, 8}, ExportTarget: "coreai-ios"})
	wantFault(t, err, fault.Infeasible, "cannot be reached")
	if hint := err.(*fault.Error).Hint; !strings.Contains(hint, "--bits 4,6,8 reaches") {
		t.Error(hint)
	}
}

// The rules of the target of a plan hold after an edit.
func TestEditedPlanOfTarget(t *testing.T) {
	s, shape := scored(t)
	p, err := MakePlan(s, PlanOptions{Bits: []int{2, 4}, ExportTarget: "coreml-ios26"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "plan.json")
	if err := p.Write(path); err != nil {
		t.Fatal(err)
	}
	if p, err = ReadPlan(path); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Widths(path, shape); err != nil {
		t.Fatal(err)
	}
	p.Target = nil
	p.Layers[3].Bits = 5
	_, err = p.Widths(path, shape)
	wantFault(t, err, fault.Infeasible, path, "coreml-ios26", p.Layers[3].Name+" has 5-bit")
	p.ExportTarget = ""
	if _, err := p.Widths(path, shape); err != nil {
		t.Error(err)
	}
	p.ExportTarget = "toaster"
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	_, err = ParsePlan(path, data)
	wantFault(t, err, fault.Input, path, "toaster", "coreai-ios")
}

// What the target does not have is refused before the text, which does not exist, is read.
func TestScoreOfTarget(t *testing.T) {
	for name, c := range map[string]struct {
		bits  []int
		group int
		parts []string
	}{
		"5 bits":     {[]int{2, 5}, 16, []string{"5 bits", "target coreai-ios"}},
		"group rows": {[]int{2, 4}, 48, []string{"not a multiple of 48"}},
	} {
		o := options(t, Fisher, c.bits...)
		o.GroupRows, o.ExportTarget = c.group, "coreai-ios"
		o.Calibration.Files = []string{"/nowhere"}
		_, err := Score(bg, o)
		t.Run(name, func(t *testing.T) { wantFault(t, err, fault.Infeasible, c.parts...) })
		o.ExportTarget = ""
		_, err = Score(bg, o)
		wantFault(t, err, fault.Input, "/nowhere")
	}
}
