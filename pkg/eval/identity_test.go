package eval_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/quantize"
)

// The identity of an evaluation follows the content of its files, not their paths: it links an
// artifact to the checkpoint that it was made from, and stays when everything is moved.
func TestIdentityFollowsContent(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := demo.Extract(at("model")); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("The boy sat down on a stone and looked at the sea. ", 10)
	if err := os.WriteFile(at("text.txt"), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	q, err := quantize.Run(ctx, quantize.Options{Model: at("model"), Out: at("art"), Bits: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeZeroAdapter(at("art"), at("lora")); err != nil {
		t.Fatal(err)
	}
	run := func(model, reference, data, adapter string) *eval.Evaluation {
		t.Helper()
		opts := eval.Options{Model: model, Reference: reference, Data: data, Ctx: 32}
		if adapter != "" {
			opts.Adapters = []eval.Adapter{{Name: "lora", Dir: adapter}}
			opts.AllowUnbound = true
		}
		e, err := eval.Run(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	first := run(at("art"), at("model"), at("text.txt"), at("lora"))
	id := first.Identity
	if got, want := id.Data, sum(t, at("text.txt")); got != want {
		t.Errorf("the data have digest %s, want %s", got, want)
	}
	if got, want := id.Tokenizer, sum(t, at("model/tokenizer.json")); got != want {
		t.Errorf("the tokenizer has digest %s, want %s", got, want)
	}
	m, err := artifact.ReadManifest(at("art"))
	if err != nil {
		t.Fatal(err)
	}
	if id.Model.Kind != "artifact" || id.Model.Digest != q.ContentHash || id.Model.Source != m.Source.Digest || !id.Model.Verified || id.Model.Bytes != q.Ledger.Total {
		t.Errorf("the model is %+v", id.Model)
	}
	if id.Reference == nil || *id.Reference != m.Source.Digest {
		t.Errorf("the reference is %v, want the source %s", id.Reference, m.Source.Digest)
	}
	if r := id.Model.Recipe; r == nil || r.BPW != q.BPW || len(r.Widths) != 1 || r.Widths[0] != 2 || r.Calibration != nil {
		t.Errorf("the recipe is %+v", r)
	}
	a := first.Adapters[0].Identity
	if a.SHA256 != sum(t, at("lora/adapter_model.safetensors")) || a.TensorBytes <= 0 || a.TensorBytes >= a.Bytes {
		t.Errorf("the adapter is %+v", a)
	}

	for _, name := range []string{"art", "model", "text.txt"} {
		if err := os.Rename(at(name), at("moved-"+name)); err != nil {
			t.Fatal(err)
		}
	}
	moved := run(at("moved-art"), at("moved-model"), at("moved-text.txt"), "").Identity
	if moved.Model.Digest != id.Model.Digest || *moved.Reference != *id.Reference || moved.Data != id.Data {
		t.Errorf("moved, the identity is %+v; it was %+v", moved, id)
	}
	source := run(at("moved-model"), "", at("moved-text.txt"), "").Identity.Model
	if source.Kind != "checkpoint" || source.Digest != m.Source.Digest || source.Source != source.Digest || source.Recipe != nil {
		t.Errorf("the checkpoint is %+v", source)
	}
	itself := run(at("moved-model"), at("moved-model"), at("moved-text.txt"), "").Identity
	if itself.Reference == nil || *itself.Reference != m.Source.Digest {
		t.Errorf("as its own reference, the checkpoint is %v", itself.Reference)
	}
	config, err := os.ReadFile(at("moved-model/config.json"))
	if err == nil {
		err = os.WriteFile(at("moved-model/config.json"), append(config, ' '), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	if other := run(at("moved-model"), "", at("moved-text.txt"), "").Identity.Model; other.Digest == source.Digest {
		t.Error("a changed checkpoint kept its digest")
	}
}

func sum(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}
