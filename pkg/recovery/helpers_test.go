package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
)

var bg = context.Background()

func newPool(t testing.TB, threads int) *compute.Pool {
	p := compute.NewPool(threads)
	t.Cleanup(p.Close)
	return p
}

// floats reads a tensor of a fixture.
func floats(t testing.TB, f *safetensors.File, name string) []float32 {
	t.Helper()
	x, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("%s has no tensor %q", f.Path(), name)
	}
	v := make([]float32, x.NumElements())
	if err := x.Float32(v, 0); err != nil {
		t.Fatal(err)
	}
	return v
}

func openFile(t testing.TB, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// bench is what runs are made of: the demo model, its 2-bit artifact and a text.
type bench struct{ model, artifact, text string }

var (
	benchOnce sync.Once
	benchDir  string
	benchErr  error
)

func TestMain(m *testing.M) {
	if does := os.Getenv(fakeVariable); does != "" {
		fakeTorch(does)
		return
	}
	code := m.Run()
	if benchDir != "" {
		os.RemoveAll(benchDir)
	}
	os.Exit(code)
}

// newBench returns the bench, which all tests share and none changes.
func newBench(t testing.TB) bench {
	t.Helper()
	benchOnce.Do(func() { benchErr = makeBench() })
	if benchErr != nil {
		t.Fatal(benchErr)
	}
	return bench{filepath.Join(benchDir, "model"), filepath.Join(benchDir, "artifact"), filepath.Join(benchDir, "text.jsonl")}
}

func makeBench() (err error) {
	if benchDir, err = os.MkdirTemp("", "recovery"); err != nil {
		return err
	}
	model := filepath.Join(benchDir, "model")
	if err := demo.Extract(model); err != nil {
		return err
	}
	pool := compute.NewPool(2)
	defer pool.Close()
	_, err = quantize.Run(bg, quantize.Options{Pool: pool, Model: model, Out: filepath.Join(benchDir, "artifact"), Bits: 2, NoRowScale: true})
	if err != nil {
		return err
	}
	m, err := infer.Open(bg, model, infer.OpenOptions{Pool: pool})
	if err != nil {
		return err
	}
	text, err := sampledText(m, pool, 7)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(benchDir, "text.jsonl"), text, 0o666)
}

// sampledText returns a .jsonl file of 24 documents that a model writes.
func sampledText(m *infer.Model, pool *compute.Pool, seed uint64) ([]byte, error) {
	texts, err := m.SampleTexts(bg, pool, 24, 100, seed, nil)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for _, text := range texts {
		if err := e.Encode(map[string]string{"text": text}); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// options returns a run of a few small steps.
func (b bench) options(t testing.TB) Options {
	return Options{
		Artifact: b.artifact, Teacher: b.model, Data: []string{b.text}, Out: filepath.Join(t.TempDir(), "out"),
		Ranks: []int{2}, Tokens: 6 * 64, SeqLen: 16, BatchTokens: 64, Validation: 200, InitTokens: 128, Rate: 2e-3, Clip: 1, Warmup: 0.2, ToolVersion: "test",
	}
}

// contents returns the files below dir by their names.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameContents(t testing.TB, got, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for name, data := range want {
		if got[name] != data {
			t.Errorf("%s differs", name)
		}
	}
}

func wantFault(t testing.TB, err error, kind fault.Kind, parts ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Fatalf("got %v; want an error of kind %v", err, kind)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
}

// wantNothing checks that a run left nothing in the directory of its output.
func wantNothing(t testing.TB, out string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left", e.Name())
	}
}

// stopAt cancels a run when so many steps are made.
type stopAt struct {
	progress.Reporter
	in     bool
	steps  int
	cancel func()
}

func (s *stopAt) Stage(st progress.Stage) { s.in = st.Name == StageTrain }

func (s *stopAt) Status(string) {
	if s.in {
		if s.steps--; s.steps == 0 {
			s.cancel()
		}
	}
}
