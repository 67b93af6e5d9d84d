package coreml

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

var bg = context.Background()

// Equal inputs give equal bytes, and a palette is stored as the artifact has it.
func TestExportIsReproducible(t *testing.T) {
	q, dir := exporttest.Demo(t, 4), t.TempDir()
	var packages []map[string]string
	for i, threads := range []int{1, 3} {
		out := filepath.Join(dir, fmt.Sprint(i), "m.mlpackage")
		if err := os.Mkdir(filepath.Dir(out), 0o777); err != nil {
			t.Fatal(err)
		}
		r, err := Export(bg, Options{Artifact: q, Out: out, Threads: threads})
		if err != nil {
			t.Fatal(err)
		}
		if r.Palettes != 28 {
			t.Errorf("%d palettes compared; the model has 28", r.Palettes)
		}
		packages = append(packages, exporttest.Contents(t, out))
	}
	if len(packages[0]) != 3 {
		t.Errorf("%d files, expected 3", len(packages[0]))
	}
	for name, data := range packages[0] {
		if packages[1][name] != data {
			t.Errorf("%s differs between two exports", name)
		}
	}
	f, err := safetensors.Open(filepath.Join(q, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		if strings.HasSuffix(name, ".indices") || strings.HasSuffix(name, ".lut") || strings.HasSuffix(name, ".row_scale") || strings.HasSuffix(name, ".q") {
			if !strings.Contains(packages[0][weightsFile], string(x.Bytes())) {
				t.Errorf("weight.bin does not have the bytes of %s", name)
			}
		}
	}
}

// A package whose palettes are damaged is noticed.
func TestCheckNoticesDamage(t *testing.T) {
	q, out := exporttest.Demo(t, 2), filepath.Join(t.TempDir(), "m.mlpackage")
	if _, err := Export(bg, Options{Artifact: q, Out: out}); err != nil {
		t.Fatal(err)
	}
	a, err := artifact.Open(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	path := filepath.Join(out, weightsFile)
	good := readFile(t, path)
	damaged := 0
	for at := 3000; at < len(good); at += len(good) / 40 {
		bad := slices.Clone(good)
		bad[at] ^= 1
		exporttest.Write(t, path, bad)
		if _, err := check(bg, out, a); err != nil {
			damaged++
			if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "weight.bin") {
				t.Errorf("byte %d: %v", at, err)
			}
		}
	}
	if damaged < 35 { // norms and rotations are not compared
		t.Errorf("%d of 40 damaged packages were noticed", damaged)
	}
}

func TestRefused(t *testing.T) {
	q4, q5, dir := exporttest.Demo(t, 4), exporttest.Demo(t, 5), t.TempDir()
	full := filepath.Join(dir, "full.mlpackage")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o777); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "m.mlpackage")
	for _, test := range []struct {
		name string
		opts Options
		kind fault.Kind
		want string
	}{
		{"no artifact", Options{Out: out}, fault.Usage, "no artifact"},
		{"context", Options{Artifact: q4, Out: out, Context: 1 << 20}, fault.Usage, "max_position_embeddings"},
		{"chunk", Options{Artifact: q4, Out: out, Context: 16, Chunk: 17}, fault.Usage, "exceeds the context"},
		{"5 bits", Options{Artifact: q5, Out: out}, fault.Infeasible, "model.layers.0.self_attn.q_proj has 5-bit"},
		{"exists", Options{Artifact: q4, Out: full}, fault.Output, "full.mlpackage"},
		{"checkpoint", Options{Artifact: "../../../internal/demo/model", Out: out}, fault.Input, "manifest.json"},
		{"adapter", Options{Artifact: q4, Out: out, Adapters: []Adapter{{"a", "../../recovery/testdata/llama", nil}}}, fault.Input, "adapter"},
		{"adapter name", Options{Artifact: q4, Out: out, Adapters: []Adapter{{Name: "a b"}}}, fault.Usage, "a b"},
		{"adapter names", Options{Artifact: q4, Out: out, Adapters: []Adapter{{Name: "a-b"}, {Name: "a_b"}}}, fault.Usage, "same function"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Export(bg, test.opts)
			if fault.KindOf(err) != test.kind || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v (%v), expected %v with %q", err, fault.KindOf(err), test.kind, test.want)
			}
		})
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("the refused exports left %v", entries)
	}
}

// A cancelled export leaves nothing.
func TestCancelled(t *testing.T) {
	q, dir := exporttest.Demo(t, 4), t.TempDir()
	ctx, cancel := context.WithCancel(bg)
	p := &canceller{Reporter: progress.Silent, cancel: cancel}
	_, err := Export(ctx, Options{Artifact: q, Out: filepath.Join(dir, "m.mlpackage"), Progress: p})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, expected a cancellation", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left %v", entries)
	}
}

// canceller cancels the job when its package has begun.
type canceller struct {
	progress.Reporter
	cancel  context.CancelFunc
	writing bool
}

func (c *canceller) Stage(s progress.Stage) { c.writing = s.Name == StageWrite }
func (c *canceller) Advance(int64) {
	if c.writing {
		c.cancel()
	}
}

// Any bytes are read without a panic.
func FuzzStoredConstants(f *testing.F) {
	b := newBuilder(newWeightFile())
	b.storedHalf("w", []int{4}, nil)
	f.Add([]byte(encodeModel(versions[DefaultTarget], []function{{name: "f", blocks: b.ops}}, nil, nil)))
	f.Add([]byte{0xb2, 0x1f, 0x03, 0x12, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := storedConstants(data); err != nil {
			return
		}
	})
}
