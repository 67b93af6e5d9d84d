package quantize

import (
	"path/filepath"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/sensitivity"
)

// What the target does not have is refused before the text, which does not exist, is read.
func TestTargetRefuses(t *testing.T) {
	nowhere := sensitivity.CalibrationOptions{Files: []string{"/nowhere"}}
	five := func(exports string) *sensitivity.Plan {
		p := &sensitivity.Plan{Schema: sensitivity.PlanSchema, GroupRows: 16, RowScale: true, ExportTarget: exports}
		src, err := artifact.OpenSource(bg, tinyModel)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		for _, w := range src.Tensors {
			if len(w.Spec.Shape) == 2 && w.Spec.Layer >= 0 {
				p.Layers = append(p.Layers, sensitivity.PlanLayer{Name: w.Spec.Module(), Bits: 5})
			}
		}
		return p
	}
	for name, c := range map[string]struct {
		o     Options
		kind  fault.Kind
		parts []string
	}{
		"bits":          {Options{Bits: 5, ExportTarget: "coreai-ios"}, fault.Infeasible, []string{"target coreai-ios", "q_proj has 5-bit"}},
		"override":      {Options{Overrides: []sensitivity.Override{{Pattern: "up_proj", Bits: 7}}, ExportTarget: "coreml-ios18"}, fault.Infeasible, []string{"up_proj has 7-bit"}},
		"groups":        {Options{GroupRows: 48, ExportTarget: "coreai-macos"}, fault.Infeasible, []string{"not a multiple of 48"}},
		"plan":          {Options{Plan: five(""), PlanFile: "plan.json", ExportTarget: "coreml-ios26"}, fault.Infeasible, []string{"plan.json: target coreml-ios26", "5-bit"}},
		"plan's own":    {Options{Plan: five("coreai-ios"), PlanFile: "plan.json"}, fault.Infeasible, []string{"plan.json: target coreai-ios", "5-bit"}},
		"candidates":    {Options{Request: &sensitivity.PlanOptions{Bits: []int{2, 5}}, ExportTarget: "coreai-ios"}, fault.Infeasible, []string{"palettes of 5 bits"}},
		"no such one":   {Options{ExportTarget: "coreai"}, fault.Usage, []string{"coreai-ios"}},
		"no rule":       {Options{Bits: 5}, fault.Input, []string{"/nowhere"}},
		"kept by it":    {Options{Bits: 6, ExportTarget: "coreai-ios"}, fault.Input, []string{"/nowhere"}},
		"request kept":  {Options{Request: &sensitivity.PlanOptions{Bits: []int{3, 6}, Target: sensitivity.Target{BPW: 5}}, ExportTarget: "coreai-ios"}, fault.Input, []string{"/nowhere"}},
		"plan's no one": {Options{Plan: five(""), PlanFile: "plan.json"}, fault.Input, []string{"/nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			c.o.Model, c.o.Out, c.o.Calibration = tinyModel, filepath.Join(parent, "out"), nowhere
			_, err := runOn(bg, newPool(t, 1), c.o)
			wantFault(t, err, c.kind, c.parts...)
			wantEmpty(t, parent)
		})
	}
}

// The target decides whether there is an artifact, not which.
func TestTargetLeavesTheArtifact(t *testing.T) {
	pool := newPool(t, 2)
	want, _ := run(t, pool, Options{Model: tinyModel, Bits: 3, GroupRows: 32})
	got, _ := run(t, pool, Options{Model: tinyModel, Bits: 3, GroupRows: 32, ExportTarget: "coreai-ios"})
	sameContents(t, got, want)
}
