package quantize

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// Every figure equals that of a direct computation from both artifacts and their source.
func TestDiffFigures(t *testing.T) {
	pool := newPool(t, 2)
	model := newSynthetic(safetensors.BF16, true).write(t, 1)
	dirA, _ := run(t, pool, Options{Model: model, Bits: 4})
	dirB, _ := run(t, pool, Options{Model: model, Bits: 4, Overrides: []sensitivity.Override{
		{Pattern: "down_proj", Bits: 2}, {Pattern: "layers.0.self_attn.v_proj", Bits: 16}, {Pattern: "lm_head", Bits: 3},
	}})
	d, err := artifact.Diff(bg, dirA, dirB, artifact.DiffOptions{Reference: model, Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	a, b := openArtifact(t, dirA), openArtifact(t, dirB)
	ckpt, err := safetensors.OpenCheckpoint(model)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	layers := map[string]artifact.LayerDifference{}
	for _, l := range append(d.Layers, d.Vectors...) {
		layers[l.Name] = l
	}
	if len(layers) != len(a.Layout) {
		t.Fatalf("%d layers of %d", len(layers), len(a.Layout))
	}
	var total, totalA, totalErr, totalRef float64
	changed := 0
	for i := range a.Layout {
		sa, sb := &a.Layout[i], &b.Layout[i]
		va, vb := denseValues(t, a, sa), denseValues(t, b, sb)
		src, _ := ckpt.Tensor(sa.Spec.Name)
		ref := make([]float32, src.NumElements())
		if err := src.Float32(ref, 0); err != nil {
			t.Fatal(err)
		}
		var diff, whole, errB, norm float64
		n := 0
		for k := range va {
			x, y, r := float64(va[k]), float64(vb[k]), float64(ref[k])
			diff, whole = diff+(x-y)*(x-y), whole+x*x
			errB, norm = errB+(y-r)*(y-r), norm+r*r
			if x != y {
				n++
			}
		}
		total, totalA, totalErr, totalRef = total+diff, totalA+whole, totalErr+errB, totalRef+norm
		l := layers[sa.Spec.Module()]
		near(t, l.Name+" distance", *l.WeightDistance, math.Sqrt(diff/whole))
		near(t, l.Name+" error", *l.B.RelError, math.Sqrt(errB/norm))
		near(t, l.Name+" changed", l.WeightsChanged, float64(n)/float64(len(va)))
		if l.Same != (sa.Form == sb.Form && sa.Bits == sb.Bits) || l.A.Bits != sa.Bits || l.B.Bytes != sb.Bytes || l.B.Form != sb.Form {
			t.Errorf("%+v", l)
		}
		if l.Same && (*l.WeightDistance != 0 || l.WeightsChanged != 0) {
			t.Errorf("%s is stored the same and differs by %v", l.Name, *l.WeightDistance)
		}
		if !l.Same {
			changed++
		}
		if palettes := sa.Form == artifact.Palette && sb.Form == artifact.Palette; palettes != (l.LUTDistance != nil) {
			t.Errorf("%s: distance of tables: %v", l.Name, l.LUTDistance)
		}
	}
	near(t, "total distance", *d.Totals.WeightDistance, math.Sqrt(total/totalA))
	near(t, "total error", *d.Totals.RelErrorB, math.Sqrt(totalErr/totalRef))
	if d.Totals.LayersChanged != changed || changed != 4 || d.Totals.Bytes != b.Manifest.Ledger.Total-a.Manifest.Ledger.Total {
		t.Errorf("totals %+v, %d changed", d.Totals, changed)
	}
	if d.Same || d.SameContent || d.A.ContentHash != a.Manifest.ContentHash || d.B.BPW != b.Manifest.BPW || *d.A.Ledger != a.Manifest.Ledger || d.IsSource != nil {
		t.Errorf("%+v", d)
	}
	// The manifests give the same errors, and nothing depends on the number of threads.
	m, err := artifact.Diff(bg, dirA, dirB, artifact.DiffOptions{Pool: newPool(t, 1)})
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range m.Layers {
		near(t, l.Name+" error of A in the manifest", *l.A.RelError, *d.Layers[i].A.RelError)
		near(t, l.Name+" error of B in the manifest", *l.B.RelError, *d.Layers[i].B.RelError)
		l.A.RelError, l.B.RelError = d.Layers[i].A.RelError, d.Layers[i].B.RelError
		x, _ := json.Marshal(l)
		y, _ := json.Marshal(d.Layers[i])
		if string(x) != string(y) {
			t.Errorf("on one thread %s, on two %s", x, y)
		}
	}
	if m.Totals.RelErrorA != nil {
		t.Error("an error without a reference")
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-9*max(1, math.Abs(want))) {
		t.Errorf("%s is %v; expected %v", what, got, want)
	}
}

// For a checkpoint and an artifact, the distance is the relative error in the manifest, and the
// manifest tells whether the artifact was made from the checkpoint.
func TestDiffOfCheckpointAndArtifact(t *testing.T) {
	pool := newPool(t, 2)
	model := newSynthetic(safetensors.F16, false).write(t, 1)
	dir, _ := run(t, pool, Options{Model: model, Bits: 3, NoRowScale: true})
	d, err := artifact.Diff(bg, model, dir, artifact.DiffOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	if d.Same || d.IsSource == nil || !*d.IsSource || d.A.Kind != "checkpoint" || d.B.Kind != "artifact" || d.A.BPW.Projections != 16 {
		t.Errorf("%+v", d)
	}
	for _, l := range d.Layers {
		near(t, l.Name, *l.WeightDistance, *l.B.RelError)
		if l.A.RelError != nil || l.LUTDistance != nil {
			t.Errorf("%s: a checkpoint has an error or a table", l.Name)
		}
	}
	s := newSynthetic(safetensors.F16, false)
	s.tensor("model.norm.weight").data[0] ^= 1
	other := s.write(t, 1)
	d, err = artifact.Diff(bg, dir, other, artifact.DiffOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	if d.IsSource == nil || *d.IsSource {
		t.Error("another checkpoint is taken for the source")
	}
}

// Equal checkpoints are equal whatever their shards; one changed byte in another file is a
// difference.
func TestDiffSame(t *testing.T) {
	pool := newPool(t, 2)
	model := newSynthetic(safetensors.F16, false).write(t, 1)
	check := func(a, b string, same, sameContent bool) *artifact.Difference {
		t.Helper()
		d, err := artifact.Diff(bg, a, b, artifact.DiffOptions{Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		if d.Same != same || d.SameContent != sameContent {
			t.Errorf("same %v, content %v; files %v", d.Same, d.SameContent, d.Files)
		}
		return d
	}
	check(model, newSynthetic(safetensors.F16, false).write(t, 3), true, true)
	a, _ := run(t, pool, Options{Model: model, NoRowScale: true})
	b, _ := run(t, pool, Options{Model: model, NoRowScale: true})
	check(a, b, true, true)
	c, _ := run(t, pool, Options{Model: model, ToolVersion: "another", NoRowScale: true})
	if d := check(a, c, false, true); len(d.Provenance) != 1 || d.Provenance[0].Key != "tool_version" || d.Provenance[0].B != "another" ||
		len(d.Files) != 1 || d.Files[0].Name != artifact.ManifestFile {
		t.Errorf("%+v %+v", d.Provenance, d.Files)
	}
	writeFile(t, filepath.Join(model, "generation_config.json"), []byte("{}"))
	e, _ := run(t, pool, Options{Model: model, NoRowScale: true})
	if d := check(a, e, false, true); len(d.Files) != 2 || d.Files[0].Name != "generation_config.json" || d.Files[0].A != "" {
		t.Errorf("%+v", d.Files)
	}
}

func TestDiffRefuses(t *testing.T) {
	pool := newPool(t, 1)
	model := newSynthetic(safetensors.F16, false).write(t, 1)
	dir, _ := run(t, pool, Options{Model: model, NoRowScale: true})
	biased := newSynthetic(safetensors.F16, true).write(t, 1)
	_, err := artifact.Diff(bg, dir, biased, artifact.DiffOptions{Pool: pool})
	wantFault(t, err, fault.Input, biased, "shape")
	_, err = artifact.Diff(bg, dir, dir, artifact.DiffOptions{Reference: biased, Pool: pool})
	wantFault(t, err, fault.Input, biased, "shape")
	_, err = artifact.Diff(bg, dir, dir, artifact.DiffOptions{Reference: dir, Pool: pool})
	wantFault(t, err, fault.Usage, "is an artifact")
	_, err = artifact.Diff(bg, dir, filepath.Join(dir, "none"), artifact.DiffOptions{Pool: pool})
	wantFault(t, err, fault.Input, "none")
	s := newSynthetic(safetensors.F16, false)
	copy(s.tensor("model.norm.weight").data, []byte{0, 0x7e}) // NaN
	_, err = artifact.Diff(bg, dir, s.write(t, 1), artifact.DiffOptions{Pool: pool})
	wantFault(t, err, fault.Input, "model.norm.weight", "not finite")
	path := filepath.Join(dir, artifact.WeightsFile)
	data := readFile(t, path)
	data[len(data)-1] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = artifact.Diff(bg, model, dir, artifact.DiffOptions{Pool: pool})
	wantFault(t, err, fault.Input, "SHA-256")
}
