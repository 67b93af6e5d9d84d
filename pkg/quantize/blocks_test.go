package quantize

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/sensitivity"
)

// An artifact in blocks is intact, says how each matrix is stored, and the engine computes with
// the weights that ggml's dequantization gives.
func TestBlocks(t *testing.T) {
	text := textFile(t, "calib.txt", strings.Repeat(story, 60))
	pool := newPool(t, 2)
	out, res := run(t, pool, Options{
		Model: tinyModel, Form: "q4_k", Calibration: sensitivity.CalibrationOptions{Files: []string{text}, SeqLen: 64, Tokens: 1024},
		Overrides: []sensitivity.Override{{Pattern: "v_proj", Bits: 16}, {Pattern: "o_proj", Form: "q8_0"}},
	})
	if len(res.Warnings) == 0 || !strings.Contains(strings.Join(res.Warnings, "\n"), "iq4_nl instead of q4_k: 128 columns are not a multiple of 256") {
		t.Errorf("warnings %q", res.Warnings)
	}
	if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	a, err := artifact.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.Manifest.Plan.Grid != "gguf" || a.Manifest.Plan.Bits != 4 || a.Manifest.Ledger.Blocks == 0 || a.Manifest.Ledger.Indices != 0 {
		t.Errorf("plan %+v, ledger %+v", a.Manifest.Plan, a.Manifest.Ledger)
	}
	compensated := 0
	for _, m := range a.Manifest.Plan.Modules {
		want := artifact.Form("iq4_nl")
		switch {
		case strings.HasSuffix(m.Name, "v_proj"):
			want = artifact.Plain
		case strings.HasSuffix(m.Name, "o_proj"), m.Name == "model.embed_tokens":
			want = "q8_0"
		}
		if m.Form != want {
			t.Errorf("%s is %s, expected %s", m.Name, m.Form, want)
		}
		if m.OutputError > 0 && m.OutputError < 1 {
			compensated++
		}
	}
	if compensated != 25 { // 4 layers of 7 projections but v_proj, and the embedding, which is the head
		t.Errorf("%d modules were compensated", compensated)
	}

	m, err := infer.Open(bg, out, infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := infer.Open(bg, tinyModel, infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Layout {
		st := &a.Layout[i]
		if len(st.Spec.Shape) != 2 {
			continue
		}
		fill, err := a.Rows(st)
		if err != nil {
			t.Fatal(err)
		}
		rows, cols := st.Spec.Shape[0], st.Spec.Shape[1]
		w := make([]float32, rows*cols)
		if err := fill(w, 0, rows); err != nil {
			t.Fatal(err)
		}
		other.SetMatrix(st.Spec, compute.PackF32(rows, cols, w))
	}
	ids := []int32{5, 9, 100, 7, 300, 11}
	got, want := logitsOf(m, ids), logitsOf(other, ids)
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 1e-4 {
			t.Fatalf("logit %d is %v, with the dequantized weights %v", i, got[i], want[i])
		}
	}
}

func logitsOf(m *infer.Model, ids []int32) []float32 {
	r := m.NewRunner(nil)
	out := make([]float32, len(ids)*m.Config.VocabSize)
	r.Logits(out, r.Forward([]infer.Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}}), len(ids))
	return out
}

// An interrupted run resumes to the bytes of an undisturbed one, with and without calibration.
func TestBlocksResume(t *testing.T) {
	text := textFile(t, "calib.txt", strings.Repeat(story, 60))
	for _, files := range [][]string{nil, {text}} {
		opts := Options{Model: tinyModel, Form: "q4_0", Calibration: sensitivity.CalibrationOptions{Files: files, SeqLen: 32, Tokens: 256}}
		want, _ := run(t, newPool(t, 2), opts)
		opts.Out = filepath.Join(t.TempDir(), "out")
		interrupt(t, opts, 9)
		other := opts
		other.Form = "q5_0"
		_, err := Run(bg, other)
		wantFault(t, err, fault.Input, "(--grid, and --types or --bits) was q4_0 and is now q5_0")
		if err != nil && strings.Contains(err.Error(), "--bits was") {
			t.Errorf("%v: names a flag that was not given", err)
		}
		got, res := run(t, newPool(t, 2), opts)
		if res.ResumedModules < 9 {
			t.Errorf("%d tensors were kept", res.ResumedModules)
		}
		sameContents(t, got, want)
	}
}

func TestBlocksRefused(t *testing.T) {
	for _, o := range []Options{
		{Form: "f16"},
		{Form: "q4_0", Bits: 4},
		{Form: "q4_0", NoRowScale: true},
		{Form: "q4_0", Request: &sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 4}}},
		{Form: "q4_0", Overrides: []sensitivity.Override{{Pattern: "q_proj", Bits: 3}}},
	} {
		o.Model, o.Out = tinyModel, filepath.Join(t.TempDir(), "out")
		_, err := Run(bg, o)
		wantFault(t, err, fault.Usage)
	}
}

// On every grid, an artifact is intact and the engine computes with the weights that the codes stand
// for. An embedding that is also the head is compensated.
func TestGrids(t *testing.T) {
	text := textFile(t, "calib.txt", strings.Repeat(story, 60))
	pool := newPool(t, 2)
	for _, form := range []artifact.Form{"affine3_g64", "asymmetric4_row"} {
		calib := sensitivity.CalibrationOptions{Files: []string{text}, SeqLen: 64, Tokens: 1024}
		out, _ := run(t, pool, Options{Model: tinyModel, Form: form, Calibration: calib})
		plain, _ := run(t, pool, Options{Model: tinyModel, Form: form})
		if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{}); err != nil {
			t.Fatal(err)
		}
		a, err := artifact.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		m, err := infer.Open(bg, out, infer.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range a.Layout {
			st := &a.Layout[i]
			if st.Spec.Kind != "down_proj" {
				continue
			}
			rows, err := a.Rows(st)
			if err != nil {
				t.Fatal(err)
			}
			want, got := make([]float32, st.Spec.Shape[1]), make([]float32, st.Spec.Shape[1])
			for r := range st.Spec.Shape[0] {
				if err := rows(want, r, r+1); err != nil {
					t.Fatal(err)
				}
				m.Blocks[st.Spec.Layer].Linear("down_proj").Weight.Row(got, r)
				if !slices.Equal(want, got) {
					t.Fatalf("%s: row %d of %s differs", form, r, st.Spec.Name)
				}
			}
		}
		for _, r := range a.Manifest.Plan.Modules {
			compensated := r.OutputError > 0
			if compensated == (r.Form == artifact.Plain) {
				t.Errorf("%s: %s, %s: output error %v", form, r.Name, r.Form, r.OutputError)
			}
			if compensated && r.OutputError > 0.95 {
				t.Errorf("%s: %s has %v of the output error without compensation", form, r.Name, r.OutputError)
			}
		}
		if kl, other := divergence(t, tinyModel, out), divergence(t, tinyModel, plain); !(kl < other) {
			t.Errorf("%s: KL %v, without compensation %v", form, kl, other)
		}
	}
}
