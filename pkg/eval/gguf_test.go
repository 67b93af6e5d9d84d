package eval_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/export/gguf"
	"afmq/pkg/fault"
	"afmq/pkg/quantize"
)

// A GGUF file is evaluated like the artifact that it was exported from, to the last bit, as the model
// and as the reference, and identified by its bytes. With a model of other tokens it is refused.
func TestGGUF(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := demo.Extract(at("model")); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("The boy sat down on a stone and looked at the sea. ", 10)
	if err := os.WriteFile(at("text.txt"), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := quantize.Run(ctx, quantize.Options{Model: at("model"), Out: at("art"), Form: "q4_k"}); err != nil {
		t.Fatal(err)
	}
	if _, err := gguf.Export(ctx, gguf.Options{Artifact: at("art"), Out: at("m.gguf")}); err != nil {
		t.Fatal(err)
	}
	if err := writeZeroAdapter(at("art"), at("lora")); err != nil {
		t.Fatal(err)
	}
	opts := eval.Options{
		Model: at("art"), Reference: at("m.gguf"), Data: at("text.txt"), Ctx: 32, Arithmetic: compute.F32,
		Adapters: []eval.Adapter{{Name: "lora", Dir: at("lora")}}, AllowUnbound: true,
	}
	e, err := eval.Run(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	if e.Comparison.KL.Max != 0 || e.Comparison.PerplexityRatio != 1 || e.Adapters[0].Comparison.KL.Max != 0 {
		t.Errorf("the file and the artifact differ: %+v", e.Comparison)
	}
	if want := sum(t, at("m.gguf")); e.Identity.Reference == nil || *e.Identity.Reference != want {
		t.Errorf("the reference has digest %v, want %s", e.Identity.Reference, want)
	}
	opts.Model, opts.Reference, opts.Adapters = at("m.gguf"), at("model"), nil
	if e, err = eval.Run(ctx, opts); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(at("m.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if m, want := e.Identity.Model, sum(t, at("m.gguf")); m.Kind != "gguf" || m.Digest != want || m.Source != want || m.Bytes != info.Size() || m.Recipe != nil || !m.Verified {
		t.Errorf("identity %+v, want %s", m, want)
	}
	tokenizer, err := os.ReadFile(at("model/tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(tokenizer), `"normalizer": null`, `"normalizer": {"type": "Prepend", "prepend": "x"}`, 1)
	if err := os.WriteFile(at("model/tokenizer.json"), []byte(other), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := eval.Run(ctx, opts); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "has other tokens for") {
		t.Errorf("a reference of other tokens: %v", err)
	}
}
