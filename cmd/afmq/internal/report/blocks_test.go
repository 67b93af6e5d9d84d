package report

import (
	"path/filepath"
	"strings"
	"testing"

	"afmq/cmd/afmq/internal/device"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

// The report of an artifact in blocks has no figure of palettes: neither parts of the file that it
// does not have, nor losses and plans that were predicted for palettes of as many bits.
func TestBlocks(t *testing.T) {
	dir := t.TempDir()
	art, scores := filepath.Join(dir, "art"), filepath.Join(dir, "scores.json")
	if _, err := quantize.Run(bg, quantize.Options{Model: in("model"), Out: art, Form: "q4_0", Pool: pool}); err != nil {
		t.Fatal(err)
	}
	// Scores and a plan of palettes that agree with the bits, the group rows and the absence of row
	// scales that the manifest has.
	scored, err := sensitivity.Score(bg, sensitivity.Options{Model: in("model"), Out: scores, Method: sensitivity.Weight, NoRowScale: true, Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := sensitivity.MakePlan(scored.Scores, sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 16}, Bits: []int{4}})
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Write(filepath.Join(dir, "plan.json")); err != nil {
		t.Fatal(err)
	}
	phone, err := device.Load("iphone-15-pro")
	if err != nil {
		t.Fatal(err)
	}
	r, page := mustMake(t, Options{Artifact: art, Scores: scores, Devices: []*device.Profile{phone}})
	for _, words := range []string{"look-up table.", "an index", "Indices", "Row scales", "row scales"} {
		if strings.Contains(page, words) {
			t.Errorf("the page has %q", words)
		}
	}
	for _, words := range []string{"q4_0, 4 bits", "grid gguf, [q4_0]", "--grid gguf --types q4_0"} {
		if !strings.Contains(page, words) {
			t.Errorf("the page lacks %q", words)
		}
	}
	for _, s := range r.Sections {
		switch d := s.Data.(type) {
		case *Bits:
			for _, c := range d.Heat.Layers[0].Cells {
				if c.Loss != nil {
					t.Errorf("%s has a predicted loss", c.Name)
				}
			}
		case *device.Guide:
			if n := len(d.Devices[0].Rows); n != 1 {
				t.Errorf("%d variants on a device", n)
			}
		}
	}
	_, err = Make(bg, pool, Options{Artifact: art, Plan: filepath.Join(dir, "plan.json")})
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "another grid") {
		t.Errorf("a plan of palettes: %v", err)
	}
}

// Artifacts in blocks are compared among themselves; embedding and head, which have types of their
// own, do not make widths mixed.
func TestRecipeOfGrid(t *testing.T) {
	m := &artifact.Manifest{Plan: artifact.QuantizationRecord{
		Bits: 4, GroupRows: 16, Grid: "gguf", Compensation: artifact.GPTQ,
		Modules: []artifact.ModuleRecord{
			{Name: "model.embed_tokens", Form: "q6_k", Bits: 6}, {Name: "model.layers.0.self_attn.q_proj", Form: "q4_k", Bits: 4},
			{Name: "lm_head", Form: "q6_k", Bits: 6},
		},
	}}
	r := eval.NewRecipe(m)
	if got := describeRecipe(r); got != "one width, compensated, grid gguf" {
		t.Errorf("recipe %q", got)
	}
	palettes := *r
	palettes.Grid = ""
	if family(r) == family(&palettes) {
		t.Error("blocks and palettes are one family")
	}
}
