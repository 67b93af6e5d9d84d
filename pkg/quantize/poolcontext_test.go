package quantize_test

import (
	"context"
	"path/filepath"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

// Functions with a context among their parameters end with that one. The pool that they are given
// may have another one, which has ended: they neither panic nor fail because of it.
func TestPoolOfAnEndedContext(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	plain := compute.NewPool(2)
	defer plain.Close()
	pool := plain.WithContext(ended)
	ctx, dir := t.Context(), t.TempDir()
	model, art := filepath.Join(dir, "model"), filepath.Join(dir, "art")
	if err := demo.Extract(model); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name string
		call func() error
	}{
		{"artifact.DigestCheckpoint", func() error { _, err := artifact.DigestCheckpoint(ctx, pool, model, nil); return err }},
		{"sensitivity.Score", func() error {
			_, err := sensitivity.Score(ctx, sensitivity.Options{Model: model, Out: filepath.Join(dir, "scores"), Method: sensitivity.Weight, Bits: []int{2}, Pool: pool})
			return err
		}},
		{"quantize.Run", func() error {
			_, err := quantize.Run(ctx, quantize.Options{Model: model, Out: art, Bits: 2, Pool: pool})
			return err
		}},
		{"artifact.Verify", func() error { _, err := artifact.Verify(ctx, art, artifact.VerifyOptions{Pool: pool}); return err }},
		{"artifact.Diff", func() error { _, err := artifact.Diff(ctx, model, art, artifact.DiffOptions{Pool: pool}); return err }},
		{"quantize.Dequantize", func() error {
			_, err := quantize.Dequantize(ctx, quantize.DequantizeOptions{Artifact: art, Out: filepath.Join(dir, "dense"), Pool: pool})
			return err
		}},
		{"infer.Open and Generate", func() error {
			m, err := infer.Open(ctx, art, infer.OpenOptions{Pool: pool})
			if err == nil {
				_, err = m.Generate(ctx, []int32{1}, infer.GenerateOptions{MaxTokens: 1, Pool: pool})
			}
			return err
		}},
	} {
		func() {
			defer func() {
				if v := recover(); v != nil {
					t.Errorf("%s panics: %v", f.name, v)
				}
			}()
			if err := f.call(); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
		}()
	}
}
