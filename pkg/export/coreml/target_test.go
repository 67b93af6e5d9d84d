package coreml

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
	"afmq/pkg/quantize"
)

// The targets of Core ML are those that the package can declare, and their widths are those that
// it can store.
func TestTargetsAreThoseOfThePackage(t *testing.T) {
	if got, want := target.OfExport("coreml"), slices.Sorted(maps.Keys(versions)); !slices.Equal(got, want) {
		t.Errorf("targets %v; the package declares %v", got, want)
	}
	for name := range versions {
		x, err := target.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		if want := slices.Sorted(maps.Keys(indexTypes)); !slices.Equal(x.Widths, want) {
			t.Errorf("%s has palettes of %v bits; the package stores %v", name, x.Widths, want)
		}
	}
}

// A package declares the versions of its target: those of coremltools 9.0, _SPECIFICATION_VERSION_IOS_18
// and _26 and their opsets. The rest of the program is the same.
func TestDeclaredVersions(t *testing.T) {
	q, dir := exporttest.Demo(t, 4), t.TempDir()
	var models []string
	for name, want := range map[string]version{"": {9, "CoreML8"}, "coreml-ios18": {9, "CoreML8"}, "coreml-ios26": {10, "CoreML9"}} {
		out := filepath.Join(dir, "m"+name+".mlpackage")
		r, err := Export(bg, Options{Artifact: q, Out: out, Target: name, Context: 16})
		if err != nil {
			t.Fatal(err)
		}
		if name != "" && r.Target != name {
			t.Errorf("the result names %s", r.Target)
		}
		model := readFile(t, filepath.Join(out, modelFile))
		if got := number(model, 1); got != want.specification {
			t.Errorf("%s: specification %d", name, got)
		}
		for _, f := range all(model, 502, 2, 2) {
			if opset, block := string(one(f, 2)), string(one(f, 3, 1)); opset != want.opset || block != opset {
				t.Errorf("%s: opset %s, block %s", name, opset, block)
			}
		}
		models = append(models, strings.ReplaceAll(string(model[2:]), want.opset, "CoreML8"))
	}
	if models[0] != models[1] || models[0] != models[2] {
		t.Error("the programs differ")
	}
}

// The programs of groups of 8 and 32 rows, and of one group for a whole matrix, compute the
// logits of the engine; a group that divides no matrix is refused.
func TestGroupRows(t *testing.T) {
	const model = "../../../internal/demo/model"
	ids := []int32{5, 300, 17, 901, 44, 2, 1200}
	for _, group := range []int{8, 32, 1 << 12} {
		q, out := filepath.Join(t.TempDir(), "q"), filepath.Join(t.TempDir(), "m.mlpackage")
		if _, err := quantize.Run(bg, quantize.Options{Model: model, Out: q, Bits: 3, GroupRows: group}); err != nil {
			t.Fatal(err)
		}
		if _, err := Export(bg, Options{Artifact: q, Out: out, Context: 16, Chunk: 4}); err != nil {
			t.Fatal(err)
		}
		if d := worst(t, packageLogits(t, out, "", 4, ids, true), engineLogits(t, q, ids)); !(d <= 0.03) {
			t.Errorf("groups of %d rows: largest difference %.3g", group, d)
		}
	}
	q := filepath.Join(t.TempDir(), "q")
	if _, err := quantize.Run(bg, quantize.Options{Model: model, Out: q, GroupRows: 24}); err != nil {
		t.Fatal(err)
	}
	_, err := Export(bg, Options{Artifact: q, Out: filepath.Join(t.TempDir(), "m.mlpackage")})
	if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), "not a multiple of 24") {
		t.Errorf("groups of 24 rows: %v", err)
	}
	_, err = Export(bg, Options{Artifact: q, Out: "x", Target: "coreai-ios"})
	if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "coreml-ios18, coreml-ios26") {
		t.Errorf("a target of another runtime: %v", err)
	}
}
