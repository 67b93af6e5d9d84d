package quantize

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// logits returns those of a model for some tokens.
func logits(t *testing.T, dir string, ids []int32) []float32 {
	t.Helper()
	pool := newPool(t, 2)
	m, err := infer.OpenWeights(bg, dir, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	r := m.NewRunner(pool)
	hidden := r.Forward([]infer.Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}})
	out := make([]float32, len(ids)*m.Config.VocabSize)
	r.Logits(out, hidden, len(ids))
	return out
}

// An embedding can be a palette of every width, with a head of its own and tied to it, with text and
// without: the artifact is intact, its config.json lists the width, the engine computes what it
// computes with the dequantized weights, and more bits are closer to the checkpoint.
func TestPalettizedEmbedding(t *testing.T) {
	untied := newSynthetic(safetensors.F32, true).write(t, 1)
	ids := []int32{7, 300, 2047, 16, 0, 301}
	for name, c := range map[string]struct {
		opts Options
		last float64 // the error of 8 bits
	}{
		"tied":                 {Options{Model: tinyModel}, 0.006},
		"tied, no row scales":  {Options{Model: tinyModel, NoRowScale: true, GroupRows: 24}, 0.006},
		"untied":               {Options{Model: untied}, 0.006},
		"tied, compensated":    {Options{Model: tinyModel, Calibration: calibration(t)}, 0.006},
		"untied, compensated":  {Options{Model: untied, Calibration: calibration(t), Compensate: artifact.GPTQ}, 0.006},
		"untied, other widths": {Options{Model: untied, Bits: 2, Overrides: []sensitivity.Override{{Pattern: "lm_head", Bits: 6}}}, 0.006},
	} {
		t.Run(name, func(t *testing.T) {
			before := math.Inf(1)
			for _, bits := range []int{1, 2, 3, 4, 5, 6, 8} {
				opts := c.opts
				opts.Overrides = append([]sensitivity.Override{{Pattern: "embed_tokens", Bits: bits}}, opts.Overrides...)
				if opts.Compensate == "" && len(opts.Calibration.Files) > 0 && bits > 3 && bits < 8 {
					continue // takes longer
				}
				q, _ := run(t, newPool(t, 2), opts)
				a, _, err := artifact.OpenVerified(bg, q, artifact.VerifyOptions{})
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				st := &a.Layout[0]
				if st.Form != artifact.Palette || st.Bits != bits || a.Config.Quantization.Modules["model.embed_tokens"] != bits || a.Manifest.Ledger.Embedding != 0 && a.Config.TieEmbeddings {
					t.Fatalf("%+v, ledger %+v", st, a.Manifest.Ledger)
				}
				dense := filepath.Join(t.TempDir(), "dense")
				if _, err := Dequantize(bg, DequantizeOptions{Artifact: q, Out: dense, DType: safetensors.F32}); err != nil {
					t.Fatal(err)
				}
				got, want := logits(t, q, ids), logits(t, dense, ids)
				for i := range want {
					if d := math.Abs(float64(got[i] - want[i])); !(d <= 1e-4*max(1, math.Abs(float64(want[i])))) {
						t.Fatalf("%d bits: logit %d is %v, with dequantized weights %v", bits, i, got[i], want[i])
					}
				}
				m := a.Manifest.Plan.Modules[0]
				if !(m.RelError < before) || bits == 8 && m.RelError > c.last {
					t.Errorf("%d bits: relative error %v, with fewer %v", bits, m.RelError, before)
				}
				before = m.RelError
				if compensated := len(opts.Calibration.Files) > 0 && a.Config.TieEmbeddings; compensated != (m.OutputError > 0) {
					t.Errorf("%d bits: output error %v", bits, m.OutputError)
				}
			}
		})
	}
}

// An embedding at 16 bits is the checkpoint's.
func TestKeptEmbedding(t *testing.T) {
	model := newSynthetic(safetensors.BF16, false).write(t, 1)
	q, _ := run(t, newPool(t, 2), Options{Model: model, Overrides: []sensitivity.Override{{Pattern: "embed_tokens", Bits: 16}}})
	a, _, err := artifact.OpenVerified(bg, q, artifact.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if m := a.Manifest.Plan.Modules[0]; m.Form != artifact.Plain || m.RelError != 0 || a.Config.Quantization.Modules[m.Name] != artifact.KeepBits {
		t.Errorf("%+v", m)
	}
}

// Damage of a palettized embedding is found, and names it.
func TestDamagedEmbedding(t *testing.T) {
	model := newSynthetic(safetensors.F32, false).write(t, 1)
	for _, suffix := range []string{artifact.SuffixIndices, artifact.SuffixLUT, artifact.SuffixRowScale} {
		q, _ := run(t, newPool(t, 2), Options{Model: model, Overrides: []sensitivity.Override{{Pattern: "embed_tokens", Bits: 3}}})
		path := filepath.Join(q, artifact.WeightsFile)
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		name := "model.embed_tokens.weight" + suffix
		x, _ := f.Tensor(name)
		data := readFile(t, path)
		at := bytes.Index(data, x.Bytes())
		f.Close()
		data[at+1] ^= 4
		writeFile(t, path, data)
		_, err = artifact.Verify(bg, q, artifact.VerifyOptions{})
		wantFault(t, err, fault.Input, fmt.Sprintf("%q", name))
		_, err = infer.OpenWeights(bg, q, infer.OpenOptions{})
		wantFault(t, err, fault.Input, fmt.Sprintf("%q", name))
	}
}

// A budget of the model gives the bytes of scoring, planning and quantizing in steps, with text and from
// statistics; the manifest records it.
func TestRequestOfModel(t *testing.T) {
	target := sensitivity.Target{BPW: 4.2, Of: sensitivity.OfModel}
	opts := Options{Model: tinyModel, Calibration: calibration(t), Request: &sensitivity.PlanOptions{Target: target}}
	got, res := run(t, newPool(t, 2), opts)
	if res.BPW.Model > 4.2 || res.BPW.Model < 4.1 || res.BPW != res.Plan.BPW || res.Bytes != res.Plan.Bytes || !res.Plan.Optimal {
		t.Fatalf("%+v", res)
	}
	if l := res.Layers[0]; l.Name != "model.embed_tokens" || l.Form != artifact.Palette {
		t.Errorf("%+v: the budget leaves no room for rows of int8", l)
	}
	s, err := sensitivity.Score(bg, sensitivity.Options{Model: tinyModel, Calibration: opts.Calibration, Ends: true, ToolVersion: "test"})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := sensitivity.MakePlan(s.Scores, sensitivity.PlanOptions{Target: target})
	if err != nil {
		t.Fatal(err)
	}
	byPlan, _ := run(t, newPool(t, 2), Options{Model: tinyModel, Plan: plan, PlanFile: "plan.json", Calibration: opts.Calibration})
	wantChoice(t, got, artifact.ChoiceRecord{By: artifact.ByTarget, Method: string(sensitivity.DefaultMethod), BPW: 4.2, Of: artifact.OfModel, Widths: sensitivity.DefaultBits()})
	wantChoice(t, byPlan, artifact.ChoiceRecord{By: artifact.ByPlan})
	sameContents(t, byPlan, got)

	stats := func(ends bool) string {
		out := filepath.Join(t.TempDir(), "stats")
		o := sensitivity.StatsOptions{Options: sensitivity.Options{Model: tinyModel, Out: out, Calibration: opts.Calibration, Ends: ends, ToolVersion: "test"}}
		if _, err := sensitivity.CollectStats(bg, o); err != nil {
			t.Fatal(err)
		}
		return out
	}
	_, res = run(t, newPool(t, 2), Options{Model: tinyModel, Stats: stats(true), Request: &sensitivity.PlanOptions{Target: target}})
	if res.BPW != plan.BPW || res.Plan.Cost != plan.Cost {
		t.Errorf("from statistics: %v, cost %v; from scores %v, %v", res.BPW, res.Plan.Cost, plan.BPW, plan.Cost)
	}
	_, err = runOn(bg, newPool(t, 2), Options{Model: tinyModel, Out: filepath.Join(t.TempDir(), "q"), ToolVersion: "test", Stats: stats(false), Request: &sensitivity.PlanOptions{Target: target}})
	wantFault(t, err, fault.Usage, "the embedding was not scored")
}
