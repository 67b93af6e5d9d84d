package coreai

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/fault"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

// python returns the interpreter that has Core AI's compiler, or skips the test.
// scripts/test-coreai sets it.
func python(t *testing.T) string {
	t.Helper()
	p := os.Getenv(PythonVariable)
	if p == "" {
		t.Skipf("%s is not set; scripts/test-coreai runs this test", PythonVariable)
	}
	return p
}

// Every family compiles in both shapes, at every width, and computes the engine's logits in
// Core AI's runtime: Export compares them.
func TestFamilies(t *testing.T) {
	python := python(t)
	widths := []int{4, 3, 2, 6, 8, 1}
	// 20 channels of keys, and 12 tokens: not multiples of 8.
	refused := map[string]bool{"qwen3-shards-bf16": true, "mistral-window-long": true}
	for i, name := range exporttest.Names(t) {
		for _, shape := range []Shape{Dynamic, Static} {
			t.Run(name+"/"+string(shape), func(t *testing.T) {
				group := 4
				if name == "qwen3-shards-bf16" { // it has matrices of 37 rows
					group = 1
				}
				q := exporttest.Quantize(t, quantize.Options{
					Model: exporttest.Copy(t, name), Bits: widths[i%len(widths)], GroupRows: group, NoRowScale: i%3 == 2,
				})
				opts := Options{Artifact: q, Out: filepath.Join(t.TempDir(), "m"), Python: python, Shape: shape, CheckTokens: 40}
				if strings.Contains(name, "longrope") { // its frequencies are constant up to its original positions
					opts.Context = 16
				}
				r, err := Export(bg, opts)
				if refused[name] && shape == Static {
					if fault.KindOf(err) != fault.Infeasible {
						t.Errorf("%v, expected a refusal", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%+v", r.Check)
				if len(r.Check) != 1 || r.Palettes == 0 || r.Check[0].MaxLogit > 1e-4 {
					t.Errorf("%+v", r)
				}
				if r.Context == 8 { // after a prompt_opt of 8 tokens nothing fits that could be compared
					return
				}
				others := 0
				for _, f := range r.Functions {
					if f == "load_embeddings" || strings.HasPrefix(f, "gather_embeddings") {
						others++
					}
				}
				if r.Check[0].Functions != len(r.Functions)-others {
					t.Errorf("%d of the functions %v were run", r.Check[0].Functions, r.Functions)
				}
			})
		}
	}
}

// A head of its own may be a palette, and projections may be kept.
func TestPalettizedHead(t *testing.T) {
	python := python(t)
	q := exporttest.Quantize(t, quantize.Options{
		Model: exporttest.Copy(t, "llama2-f32"), GroupRows: 4, Bits: 3,
		Overrides: []sensitivity.Override{{Pattern: "lm_head", Bits: 4}, {Pattern: "layers.0.*v_proj", Bits: 16}},
	})
	for _, shape := range []Shape{Dynamic, Static} {
		r, err := Export(bg, Options{Artifact: q, Out: filepath.Join(t.TempDir(), "m"), Python: python, Shape: shape, Context: 64})
		if err != nil {
			t.Fatal(err)
		}
		if r.Palettes%7 != 0 || r.Check[0].MaxLogit > 1e-4 { // one v_proj less, the head more
			t.Errorf("%s: %+v", shape, r)
		}
	}
}

// An embedding may be a palette, tied to the head or not, with and without row scales.
func TestPalettizedEmbedding(t *testing.T) {
	python := python(t)
	for _, c := range []struct {
		model      string
		bits       int
		noRowScale bool
	}{{"qwen3-tied-f16", 4, false}, {"llama2-f32", 3, true}} {
		q := exporttest.Quantize(t, quantize.Options{
			Model: exporttest.Copy(t, c.model), GroupRows: 4, Bits: 4, NoRowScale: c.noRowScale,
			Overrides: []sensitivity.Override{{Pattern: "embed_tokens", Bits: c.bits}},
		})
		for _, shape := range []Shape{Dynamic, Static} {
			r, err := Export(bg, Options{Artifact: q, Out: filepath.Join(t.TempDir(), "m"), Python: python, Shape: shape, Context: 64})
			if err != nil {
				t.Fatal(err)
			}
			if r.Palettes%7 != 1 || r.Check[0].MaxLogit > 1e-4 {
				t.Errorf("%s, %s: %+v", c.model, shape, r)
			}
		}
	}
}

// An adapter is a function, or the inputs of one, and equal exports are equal.
func TestAdapters(t *testing.T) {
	python := python(t)
	q := exporttest.Quantize(t, quantize.Options{Model: exporttest.Copy(t, "llama-biases"), GroupRows: 4})
	const peft = "../../recovery/testdata/llama"
	dir := t.TempDir()
	var bundles []map[string]string
	for _, name := range []string{"a", "b"} {
		r, err := Export(bg, Options{
			Artifact: q, Out: filepath.Join(dir, name), Name: "m", Python: python, AllowUnbound: true, AdapterInputs: true,
			Adapters: []Adapter{{Name: "my-lora", Dir: peft}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.Functions, " "); got != "main main_my-lora main_lora" {
			t.Errorf("functions %s", got)
		}
		if len(r.Check) != 3 || r.Check[2].Function != "main_lora with my-lora" {
			t.Errorf("checks %+v", r.Check)
		}
		if !r.Reproducible {
			t.Skip("this system does not let a process have fixed addresses, on which the compiler's names depend")
		}
		bundles = append(bundles, exporttest.Contents(t, filepath.Join(dir, name)))
	}
	for name, data := range bundles[0] {
		if bundles[1][name] != data {
			t.Errorf("%s differs between two exports", name)
		}
	}
}

// What --skip-compile writes makes the asset that a direct export makes, wherever it is called.
func TestCompiledLater(t *testing.T) {
	python := python(t)
	q, dir := exporttest.Demo(t, 4), t.TempDir()
	direct, err := Export(bg, Options{Artifact: q, Out: filepath.Join(dir, "direct"), Name: "m", Python: python, CheckTokens: -1})
	if err != nil {
		t.Fatal(err)
	}
	later := filepath.Join(dir, "later: ü")
	r, err := Export(bg, Options{Artifact: q, Out: later, Name: "m", Python: python, SkipCompile: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*exec.Cmd{
		"as printed": exec.Command(r.Command[0], r.Command[1:]...),
		"in build":   exec.Command(r.Command[0], "bridge.py", "."),
	} {
		if name == "in build" {
			c.Dir = filepath.Join(later, buildDir)
		}
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		if !direct.Reproducible {
			t.Skip("this system does not let a process have fixed addresses")
		}
		asset := filepath.Join(later, "m.aimodel")
		want, got := exporttest.Contents(t, filepath.Join(dir, "direct", "m.aimodel")), exporttest.Contents(t, asset)
		if len(want) != len(got) {
			t.Errorf("%s: %d files, expected %d", name, len(got), len(want))
		}
		for file, data := range want {
			if got[file] != data {
				t.Errorf("%s: %s differs", name, file)
			}
		}
		if err := os.RemoveAll(asset); err != nil {
			t.Fatal(err)
		}
	}
	if files := exporttest.Contents(t, filepath.Join(later, buildDir)); len(files) != 8 {
		t.Errorf("build has %d files after it was used, expected 8", len(files))
	}
}

// The environment cannot make an export claim that it is reproducible.
func TestFixedAddressesRefused(t *testing.T) {
	python := python(t)
	t.Setenv("AFMQ_FIXED_ADDRESSES", "1") // the program does not start again
	r, err := Export(bg, Options{Artifact: exporttest.Demo(t, 4), Out: filepath.Join(t.TempDir(), "m"), Python: python, CheckTokens: -1})
	if err != nil || r.Reproducible {
		t.Errorf("%+v, %v", r, err)
	}
}

// An interrupt from the terminal, which every process of its group gets, leaves the bridge to
// afmq.
func TestBridgeLeavesInterrupts(t *testing.T) {
	python, dir := python(t), t.TempDir()
	if err := writeBridge(dir); err != nil {
		t.Fatal(err)
	}
	b, err := startBridge(bg, python, dir, dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	if err := b.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ask(bg, request{Do: "nothing"}); err == nil || !strings.Contains(err.Error(), "AttributeError") {
		t.Errorf("%v, expected the answer to an unknown request", err)
	}
}

// A Python without the packages gets one line that says how to install them.
func TestCompileWithoutPackages(t *testing.T) {
	python3, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	dir := t.TempDir()
	if _, err := Export(bg, Options{Artifact: exporttest.Demo(t, 4), Out: filepath.Join(dir, "m"), SkipCompile: true}); err != nil {
		t.Fatal(err)
	}
	// -S: without installed packages.
	out, err := exec.Command(python3, "-I", "-S", filepath.Join(dir, "m", "build", "bridge.py"), filepath.Join(dir, "m", "build")).CombinedOutput()
	if err == nil || strings.Contains(string(out), "Traceback") || !strings.Contains(string(out), "-m pip install -r") && !strings.Contains(string(out), "too old") {
		t.Errorf("%v: %s", err, out)
	}
}
