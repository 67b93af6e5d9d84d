package quantize

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

const (
	story = "The captain stood at the door of the house and looked out over the sea. There was no ship to be seen, " +
		"and the wind had fallen. \"We must wait,\" said he, \"until the morning.\" His wife answered nothing, but turned away. "
	other = "In the winter the two brothers lived in the town, and in the summer they went up to the hills with the sheep. " +
		"Nobody knew who their father had been. \"It is no matter,\" the elder would say, \"we have the house and the land.\" "
)

func textFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	writeFile(t, path, []byte(text))
	return path
}

// calibration returns about 1000 tokens of text for the tiny model.
func calibration(t testing.TB) sensitivity.CalibrationOptions {
	return sensitivity.CalibrationOptions{Files: []string{textFile(t, "calib.txt", strings.Repeat(story, 20))}, SeqLen: 64, Tokens: 1024}
}

// sampled returns a file of text sampled from the tiny model.
func sampled(t *testing.T) string {
	t.Helper()
	pool := newPool(t, 2)
	m, err := infer.Open(bg, tinyModel, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	texts, err := m.SampleTexts(bg, pool, 64, 64, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return textFile(t, "sampled.txt", strings.Join(texts, "\n"))
}

// divergence returns the mean KL of an artifact on a text that it was not calibrated on.
func divergence(t *testing.T, out, model string) float64 {
	t.Helper()
	pool := newPool(t, 2)
	a, err := infer.Open(bg, out, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	b, err := infer.Open(bg, model, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	c, err := eval.EncodeTexts("text", []string{strings.Repeat(other, 6)}, b.Tokenizer, 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := eval.Score(bg, a, c, eval.ScoreOptions{Ctx: 64, Reference: b, Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	return e.KL.Mean
}

// Compensation lowers the divergence on other text, the manifest records it, the artifact is
// valid, and the bytes do not depend on threads or interruptions.
func TestCompensation(t *testing.T) {
	opts := Options{Model: tinyModel, Bits: 2, Overrides: []sensitivity.Override{{Pattern: `layers\.1\..*up_proj`, Bits: 16}}}
	plain, _ := run(t, newPool(t, 2), opts)
	opts.Calibration = calibration(t)
	opts.Calibration.Files, opts.Calibration.Tokens = []string{sampled(t)}, 3072
	out, res := run(t, newPool(t, 2), opts)
	before, after := divergence(t, plain, tinyModel), divergence(t, out, tinyModel)
	t.Logf("divergence %.4f, compensated %.4f", before, after)
	if after > 0.75*before {
		t.Errorf("divergence %v, plain %v", after, before)
	}
	m, err := artifact.ReadManifest(out)
	if err != nil {
		t.Fatal(err)
	}
	if m.Plan.Compensation != artifact.LossNorm || m.Calibration == nil || m.Calibration.Tokens != 3072 || len(m.Calibration.Passages) != 48*2 {
		t.Errorf("plan %+v, calibration %+v", m.Plan.Compensation, m.Calibration)
	}
	for _, l := range res.Layers {
		compensated := l.Form == artifact.Palette
		if compensated != (l.OutputError > 0) || l.OutputError >= 1 || l.Warning != "" {
			t.Errorf("%+v", l)
		}
	}
	if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{Pool: newPool(t, 2)}); err != nil {
		t.Error(err)
	}
	opts.Out = filepath.Join(t.TempDir(), "again")
	opts.Memory = 1 // hidden states are in files
	one, _ := run(t, newPool(t, 1), opts)
	sameContents(t, one, out)
	for _, n := range []int{1, 9, 23, 46} {
		opts.Out = filepath.Join(t.TempDir(), "out")
		interrupt(t, opts, n)
		run(t, newPool(t, 3), opts)
		sameContents(t, opts.Out, out)
	}
}

// A module whose inputs are all zero is palettized without compensation, with a warning.
func TestCompensationFallsBack(t *testing.T) {
	s := newSynthetic(safetensors.F32, true)
	norm := s.tensor("model.layers.1.post_attention_layernorm.weight")
	norm.data = make([]byte, len(norm.data)) // the inputs of gate, up and down of layer 1 are zero
	opts := Options{Model: s.write(t, 1), Calibration: calibration(t), NoRowScale: true}
	opts.Calibration.SeqLen = 32
	out, res := run(t, newPool(t, 2), opts)
	for _, l := range res.Layers {
		dead := strings.HasPrefix(l.Name, "model.layers.1.mlp")
		if dead != (l.Warning != "") || dead && (!strings.Contains(l.Warning, "not compensated") || l.OutputError != 0) {
			t.Errorf("%+v", l)
		}
	}
	if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{Pool: newPool(t, 1)}); err != nil {
		t.Error(err)
	}
	plain, _ := run(t, newPool(t, 1), Options{Model: opts.Model, NoRowScale: true})
	a, b := openTensors(t, out), openTensors(t, plain)
	name := "model.layers.1.mlp.gate_proj.weight.indices"
	if string(a[name]) != string(b[name]) {
		t.Error("a module that could not be compensated is not the plain palette")
	}
}

func openTensors(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(dir, artifact.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]byte{}
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		out[name] = append([]byte(nil), x.Bytes()...)
	}
	return out
}

// Compensation supports a palettized head, biases and an untied embedding.
func TestCompensationOfHeadAndBiases(t *testing.T) {
	for _, o := range [][]sensitivity.Override{nil, {{Pattern: "lm_head", Bits: 4}}} {
		opts := Options{Model: newSynthetic(safetensors.BF16, true).write(t, 2), Overrides: o, Calibration: calibration(t), NoRowScale: true}
		opts.Calibration.SeqLen = 32
		out, res := run(t, newPool(t, 2), opts)
		if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{Pool: newPool(t, 1)}); err != nil {
			t.Error(err)
		}
		head := res.Layers[len(res.Layers)-1]
		if head.Name != "lm_head" || (head.OutputError > 0) != (o != nil) {
			t.Errorf("%+v", head)
		}
	}
}

// A weight that is not finite is reported with its position.
func TestCompensationOfBadWeights(t *testing.T) {
	s := newSynthetic(safetensors.F32, true)
	x := s.tensor("model.layers.0.self_attn.k_proj.weight")
	copy(x.data[4*(3*synHidden+5):], float32Bytes([]float32{float32(math.NaN())}))
	opts := Options{Model: s.write(t, 1), Calibration: calibration(t), Out: filepath.Join(t.TempDir(), "out"), NoRowScale: true}
	opts.Calibration.SeqLen = 32
	_, err := runOn(bg, newPool(t, 2), opts)
	wantFault(t, err, fault.Input, "k_proj.weight", "NaN")
	if !strings.Contains(err.Error(), "77") && !strings.Contains(err.Error(), "row 3, column 5") {
		t.Errorf("%v: without its position", err)
	}
	wantEmpty(t, filepath.Dir(opts.Out))
}
