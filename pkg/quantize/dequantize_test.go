package quantize

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// In F32 a dequantized checkpoint holds the weights of every form exactly.
func TestDequantizeExactly(t *testing.T) {
	pool := newPool(t, 2)
	art, _ := run(t, pool, Options{
		Model: newSynthetic(safetensors.F32, true).write(t, 1), Bits: 3, Overrides: []sensitivity.Override{{Pattern: "down_proj", Bits: 8}, {Pattern: "v_proj", Bits: 16}},
	})
	out := filepath.Join(t.TempDir(), "dense")
	if _, err := Dequantize(bg, DequantizeOptions{Artifact: art, Out: out, DType: safetensors.F32, Pool: pool}); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, out)
	a := openArtifact(t, art)
	f, err := safetensors.Open(filepath.Join(out, artifact.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range a.Layout {
		st := &a.Layout[i]
		if x, ok := f.Tensor(st.Spec.Name); !ok || x.DType != safetensors.F32 || !bytes.Equal(x.Bytes(), float32Bytes(denseValues(t, a, st))) {
			t.Errorf("%s is not what the artifact stores", st.Spec.Name)
		}
	}
	config, err := os.ReadFile(filepath.Join(out, artifact.ConfigFile))
	if err != nil || !bytes.Contains(config, []byte(`"float32"`)) {
		t.Errorf("config.json: %v, %s", err, config)
	}
	if _, err := Dequantize(bg, DequantizeOptions{Artifact: art, Out: out + "2", DType: safetensors.BF16, Pool: pool}); fault.KindOf(err) != fault.Usage {
		t.Errorf("BF16: %v", err)
	}
}

// A dequantized checkpoint holds the weights of the artifact, rounded to fp16, and can be
// quantized again.
func TestDequantize(t *testing.T) {
	pool := newPool(t, 2)
	art, _ := run(t, pool, Options{
		Model: newSynthetic(safetensors.BF16, true).write(t, 1), Bits: 3, Overrides: []sensitivity.Override{{Pattern: "down_proj", Bits: 8}, {Pattern: "v_proj", Bits: 16}}, NoRowScale: true,
	})
	out := filepath.Join(t.TempDir(), "dense")
	res, err := Dequantize(bg, DequantizeOptions{Artifact: art, Out: out, Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	wantOnly(t, out)
	a := openArtifact(t, art)
	f, err := safetensors.Open(filepath.Join(out, artifact.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Metadata()["format"] != "pt" || res.Bytes != f.Bytes() || res.Tensors != len(f.Names()) || len(f.Names()) != len(a.Layout) {
		t.Errorf("%d tensors, metadata %v, result %+v", len(f.Names()), f.Metadata(), res)
	}
	for i := range a.Layout {
		st := &a.Layout[i]
		want := denseValues(t, a, st)
		half := make([]uint16, len(want))
		kernel.F32ToF16(half, want)
		x, ok := f.Tensor(st.Spec.Name)
		if !ok || x.DType != safetensors.F16 || !bytes.Equal(x.Bytes(), uint16Bytes(half)) {
			t.Errorf("%s is not the stored tensor rounded to fp16", st.Spec.Name)
		}
		if st.Form == artifact.Palette { // exact without row scales
			back := make([]float32, len(want))
			kernel.F16ToF32(back, half)
			for k := range back {
				if back[k] != want[k] {
					t.Fatalf("%s: %v became %v", st.Spec.Name, want[k], back[k])
				}
			}
		}
	}
	for _, name := range []string{"tokenizer.json"} {
		if !bytes.Equal(readFile(t, filepath.Join(out, name)), readFile(t, filepath.Join(art, name))) {
			t.Errorf("%s is not the artifact's", name)
		}
	}
	cfg, err := model.LoadConfig(out)
	if err != nil || cfg.Quantization != nil {
		t.Errorf("config: %+v, %v", cfg, err)
	}
	again, _ := run(t, pool, Options{Model: out, Bits: 3, Overrides: []sensitivity.Override{{Pattern: "down_proj", Bits: 8}, {Pattern: "v_proj", Bits: 16}}, NoRowScale: true})
	b := openArtifact(t, again)
	for i := range a.Layout {
		if st := &a.Layout[i]; st.Form == artifact.Palette {
			if !bytes.Equal(floatBytes(safetensors.F32, denseValues(t, a, st)), floatBytes(safetensors.F32, denseValues(t, b, &b.Layout[i]))) {
				t.Errorf("%s: changes when it is quantized again", st.Spec.Name)
			}
		}
	}
}

// The rounding of the int8 embedding to fp16 is at most half an ulp of fp16.
func TestDequantizedEmbeddingError(t *testing.T) {
	pool := newPool(t, 2)
	art, _ := run(t, pool, Options{Model: tinyModel, NoRowScale: true})
	a := openArtifact(t, art)
	for i := range a.Layout {
		st := &a.Layout[i]
		if st.Form != artifact.RowInt8 {
			continue
		}
		want := denseValues(t, a, st)
		half, back := make([]uint16, len(want)), make([]float32, len(want))
		kernel.F32ToF16(half, want)
		kernel.F16ToF32(back, half)
		worst, e, n := 0.0, 0.0, 0.0
		for k := range want {
			d := math.Abs(float64(want[k]) - float64(back[k]))
			worst = max(worst, d/max(math.Abs(float64(want[k])), 0x1p-14))
			e += d * d
			n += float64(want[k]) * float64(want[k])
		}
		t.Logf("%s: fp16 rounding moves a value by at most %.2e of it, %.2e of the norm in all", st.Spec.Name, worst, math.Sqrt(e/n))
		if worst > 0x1p-11 {
			t.Errorf("%s: %v is more than half an ulp", st.Spec.Name, worst)
		}
	}
}

func TestDequantizeRefuses(t *testing.T) {
	pool := newPool(t, 2)
	art := smallArtifact(t)
	parent := t.TempDir()
	out := filepath.Join(parent, "dense")

	path := filepath.Join(art, artifact.WeightsFile)
	data := readFile(t, path)
	data[len(data)-1] ^= 1
	writeFile(t, path, data)
	_, err := Dequantize(bg, DequantizeOptions{Artifact: art, Out: out, Pool: pool})
	wantFault(t, err, fault.Input, artifact.WeightsFile, "SHA-256")
	wantEmpty(t, parent)
	data[len(data)-1] ^= 1
	writeFile(t, path, data)

	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := Dequantize(ctx, DequantizeOptions{Artifact: art, Out: out, Pool: pool}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	wantEmpty(t, parent)

	_, err = Dequantize(bg, DequantizeOptions{Artifact: tinyModel, Out: out, Pool: pool})
	wantFault(t, err, fault.Input, "manifest.json", "is not an artifact")
	_, err = Dequantize(bg, DequantizeOptions{Artifact: art, Out: art, Pool: pool})
	wantFault(t, err, fault.Output)
}

// A value outside the range of fp16 is an error, not an infinity.
func TestDequantizeOverflow(t *testing.T) {
	pool := newPool(t, 2)
	s := newSynthetic(safetensors.F32, false)
	copy(s.tensor("model.embed_tokens.weight").data[4*synHidden*100:], floatBytes(safetensors.F32, []float32{1, 70000}))
	art, _ := run(t, pool, Options{Model: s.write(t, 1), NoRowScale: true})
	parent := t.TempDir()
	_, err := Dequantize(bg, DequantizeOptions{Artifact: art, Out: filepath.Join(parent, "dense"), Pool: pool})
	wantFault(t, err, fault.Input, "model.embed_tokens.weight", "index 2401", "too large for F16")
	wantEmpty(t, parent)
}

// A killed run leaves files of its artifact. A run for an artifact with the same tensors but
// other files must not publish them.
func TestDequantizeAfterKill(t *testing.T) {
	s := newSynthetic(safetensors.F16, true)
	model := s.write(t, 1)
	plain, _ := run(t, newPool(t, 1), Options{Model: model, Bits: 2})
	writeFile(t, filepath.Join(model, "chat_template.jinja"), []byte("{{ messages }}"))
	chat, _ := run(t, newPool(t, 1), Options{Model: model, Bits: 2})

	killed := filepath.Join(t.TempDir(), "dense")
	first := DequantizeOptions{Artifact: chat, Out: filepath.Join(t.TempDir(), "dense")}
	first.Progress = &doneHook{progress.Silent, func() { copyTree(t, stateDir(first.Out), stateDir(killed)) }}
	if _, err := Dequantize(bg, first); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(stateDir(killed), "out", "chat_template.jinja")); err != nil {
		t.Fatalf("the state of a killed run: %v", err)
	}
	_, err := Dequantize(bg, DequantizeOptions{Artifact: plain, Out: killed})
	wantFault(t, err, fault.Input, "another job", "manifest")
	if _, err := Dequantize(bg, DequantizeOptions{Artifact: chat, Out: killed}); err != nil {
		t.Fatal(err)
	}
	sameContents(t, killed, first.Out)
}

// doneHook calls at when the last stage ends.
type doneHook struct {
	progress.Reporter
	at func()
}

func (h *doneHook) Done() { h.at() }
