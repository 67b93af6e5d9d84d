package artifact_test

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/artifact"
	"afmq/pkg/export/gguf"
	"afmq/pkg/quantize"
)

// Measure agrees with the manifest of an artifact, with the width of a checkpoint, and with the
// types of a GGUF file.
func TestMeasure(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := demo.Extract(in("model")); err != nil {
		t.Fatal(err)
	}
	q, err := quantize.Run(ctx, quantize.Options{Model: in("model"), Out: in("q3"), Bits: 3})
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := quantize.Run(ctx, quantize.Options{Model: in("model"), Out: in("q4k"), Form: "q4_k"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gguf.Export(ctx, gguf.Options{Artifact: in("q4k"), Out: in("q4k.gguf")}); err != nil {
		t.Fatal(err)
	}
	source, n, err := artifact.Measure(in("model"))
	if err != nil {
		t.Fatal(err)
	}
	if source.Projections != 16 || source.Model != 16 {
		t.Errorf("the checkpoint has %+v", source)
	}
	packed, m, err := artifact.Measure(in("q3"))
	if err != nil {
		t.Fatal(err)
	}
	if packed != q.BPW || m != n {
		t.Errorf("the artifact has %+v of %d weights; its manifest states %+v", packed, m, q.BPW)
	}
	file, m, err := artifact.Measure(in("q4k.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	// The file has the norms in F32 and else the bytes of the artifact.
	if m != n || file.Projections != blocks.BPW.Projections || math.Abs(file.Model-blocks.BPW.Model) > 0.1 {
		t.Errorf("the GGUF file has %+v of %d weights", file, m)
	}
	if _, _, err := artifact.Measure(in("nothing")); err == nil {
		t.Error("a directory that does not exist was measured")
	}
}
