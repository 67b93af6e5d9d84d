package artifact_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/artifact"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
)

// replacer is a progress reporter that puts another artifact in place of a verified one.
type replacer struct {
	progress.Reporter
	t          *testing.T
	dir, other string
}

func (r *replacer) Done() {
	if r.other == "" {
		return
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Error(err)
	}
	if err := os.Rename(r.other, r.dir); err != nil {
		r.t.Error(err)
	}
	r.other = ""
}

// Diff compares the artifact that it verified, even if another one takes its place before the
// comparison.
func TestDiffComparesWhatItVerified(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	source := filepath.Join(dir, "model")
	if err := demo.Extract(source); err != nil {
		t.Fatal(err)
	}
	for name, bits := range map[string]int{"a": 4, "other": 2} {
		if _, err := quantize.Run(ctx, quantize.Options{Model: source, Out: filepath.Join(dir, name), Bits: bits}); err != nil {
			t.Fatal(err)
		}
	}
	a, other := filepath.Join(dir, "a"), filepath.Join(dir, "other")
	want, err := artifact.Verify(ctx, a, artifact.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := artifact.Diff(ctx, a, source, artifact.DiffOptions{Progress: &replacer{progress.Silent, t, a, other}})
	if err != nil {
		t.Fatal(err)
	}
	if d.A.ContentHash != want.ContentHash || d.A.BPW != want.BPW {
		t.Errorf("compared %s with %v bits; verified %s with %v", d.A.ContentHash, d.A.BPW, want.ContentHash, want.BPW)
	}
	if now, err := artifact.Verify(ctx, a, artifact.VerifyOptions{}); err != nil || now.ContentHash == want.ContentHash {
		t.Errorf("the artifact was not replaced: %v", err)
	}
}
