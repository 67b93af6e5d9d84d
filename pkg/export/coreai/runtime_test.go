package coreai

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/fault"
	"afmq/pkg/quantize"
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
				if len(r.Check) != 1 || r.Palettes == 0 {
					t.Errorf("%+v", r)
				}
			})
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
