package coreai

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
	bridgefiles "afmq/scripts/coreai"
)

// A bundle has the files that Apple's runner reads, and what it says is compared with the engine.
func TestBundle(t *testing.T) {
	q, dir := exporttest.Demo(t, 4), t.TempDir()
	out := filepath.Join(dir, "my-4bit")
	text := filepath.Join(dir, "text.txt")
	exporttest.Write(t, text, []byte(strings.Repeat("It was a dark night. ", 40)))
	model := filepath.Join(dir, "model")
	if err := demo.Extract(model); err != nil {
		t.Fatal(err)
	}
	r, err := Export(bg, Options{Artifact: q, Out: out, Python: fake(t, "none", q), CheckData: text, Reference: model})
	if err != nil {
		t.Fatal(err)
	}
	if r.Palettes != 28 || !r.Reproducible || r.Compiler.CoreAI != pinned("coreai-core") {
		t.Errorf("%+v", r)
	}
	if len(r.Check) != 1 || r.Check[0].Function != "main" || r.Check[0].Tokens != DefaultCheckTokens || r.Check[0].MaxLogit > 1e-5 || r.Check[0].HalfKL > 1e-9 {
		t.Errorf("check %+v", r.Check)
	}
	if len(r.Data) != 1 || r.Data[0].Tokens < 100 || !near(r.Data[0].Perplexity, r.Data[0].EnginePerplexity) ||
		!near(*r.Data[0].ReferenceKL, *r.Data[0].EngineReferenceKL) || !(*r.Data[0].ReferenceKL > 1e-4) {
		t.Errorf("data %+v", r.Data)
	}
	files := exporttest.Contents(t, out)
	for _, name := range []string{"metadata.json", "my-4bit.aimodel/main.mlirb", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"} {
		if files[filepath.FromSlash(name)] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	var m bundleMetadata
	if err := json.Unmarshal([]byte(files["metadata.json"]), &m); err != nil {
		t.Fatal(err)
	}
	// Apple's ModelConfig.validate refuses a source without hf_model_id; user_data is for others.
	if m.UserData["afmq_content_hash"] != r.ContentHash || strings.Contains(files["metadata.json"], `"source"`) {
		t.Errorf("metadata %s", files["metadata.json"])
	}
	if m.Kind != "llm" || m.Assets["main"] != "my-4bit.aimodel" || m.Compression != "4-bit palettes" ||
		m.Language.MaxContextLength != r.Context || m.Language.FunctionMap["main"][0] != "main" {
		t.Errorf("metadata %+v", m)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 {
		t.Errorf("left %v", entries)
	}
}

func near(a, b float64) bool { return a > 0 && a/b > 1-1e-6 && a/b < 1+1e-6 }

// A bridge that is absent, of another version, dies, or computes or stores something else is
// reported in one line, and nothing is left.
func TestFaults(t *testing.T) {
	q, dir := exporttest.Demo(t, 2), t.TempDir()
	for _, test := range []struct {
		fault string
		kind  fault.Kind
		want  string
	}{
		{"silent", fault.Input, "SyntaxError: invalid syntax"},
		{"version", fault.Input, "has coreai-core 1.0.0b9; the program is written for " + pinned("coreai-core")},
		{"missing", fault.Input, "lacks the package coreai-core " + pinned("coreai-core")},
		{"dies", fault.Unexpected, `ended during "build", exit status 137: Killed`},
		{"refuses", fault.Unexpected, "cannot build the program: ValueError: no such operation"},
		{"full", fault.Output, "out: cannot be written: no space left on device"},
		{"aborts", fault.Output, "out: cannot be written: no space left on device"},
		{"bus error", fault.Output, "as where a mapped file meets the end of the disk: no space left on device"},
		{"vanishes", fault.Unexpected, `ended during "run", exit status 9: Segmentation fault`},
		{"chatter", fault.Unexpected, `answered "a library greets`},
		{"damages", fault.Unexpected, "out.aimodel: model.layers.1.mlp.up_proj.weight.indices is not in the compiled program"},
		{"wrong", fault.Unexpected, "main: the logits of the Core AI program differ from the engine's by up to 0.02"},
		{"rough", fault.Infeasible, "main: the fp16 program diverges from its float32 twin"},
		{"nan", fault.Unexpected, "differ from the engine's by up to NaN"},
		{"short", fault.Unexpected, "bytes of logits for"},
	} {
		t.Run(test.fault, func(t *testing.T) {
			_, err := Export(bg, Options{Artifact: q, Out: filepath.Join(dir, "out"), Python: fake(t, test.fault, q)})
			if err == nil || fault.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v (%v), expected %v with %q", err, fault.KindOf(err), test.kind, test.want)
			}
			if entries, _ := os.ReadDir(dir); len(entries) > 0 {
				t.Errorf("left %v", entries)
			}
		})
	}
}

// What Core AI cannot express, and options that do not fit, are refused before the compiler is
// looked for.
func TestRefused(t *testing.T) {
	q4, dir := exporttest.Demo(t, 4), t.TempDir()
	out := filepath.Join(dir, "m")
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o777); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text.txt")
	exporttest.Write(t, text, []byte("It was a dark night."))
	odd := exporttest.Quantize(t, quantize.Options{Model: exporttest.Copy(t, "qwen3-shards-bf16"), GroupRows: 4, Bits: 4})
	for _, test := range []struct {
		name string
		opts Options
		kind fault.Kind
		want string
	}{
		{"no artifact", Options{Out: out}, fault.Usage, "no artifact"},
		{"shape", Options{Artifact: q4, Out: out, Shape: "round"}, fault.Usage, "round"},
		{"context", Options{Artifact: q4, Out: out, Context: 1 << 20}, fault.Usage, "max_position_embeddings"},
		{"static context", Options{Artifact: q4, Out: out, Shape: Static, Context: 60}, fault.Usage, "multiple of 8"},
		{"5 bits", Options{Artifact: exporttest.Demo(t, 5), Out: out}, fault.Infeasible, "5-bit"},
		{"rows", Options{Artifact: odd, Out: out}, fault.Infeasible, "not a multiple of 4"},
		{"exists", Options{Artifact: q4, Out: full}, fault.Output, "full"},
		{"checkpoint", Options{Artifact: "../../../internal/demo/model", Out: out}, fault.Input, "manifest.json"},
		{"adapter", Options{Artifact: q4, Out: out, Adapters: []Adapter{{Name: "a", Dir: "../../recovery/testdata/llama"}}}, fault.Input, "adapter"},
		{"adapter name", Options{Artifact: q4, Out: out, Adapters: []Adapter{{Name: "a b"}}}, fault.Usage, "a b"},
		{"adapter twice", Options{Artifact: q4, Out: out, Adapters: []Adapter{{Name: "a"}, {Name: "a"}}}, fault.Usage, "two adapters"},
		{"inputs", Options{Artifact: q4, Out: out, AdapterInputs: true}, fault.Usage, "at least one adapter"},
		{"python", Options{Artifact: q4, Out: out, Python: "no-such-python"}, fault.Input, "no-such-python: is no Python interpreter: executable file not found"},
		{"python path", Options{Artifact: q4, Out: out, Python: filepath.Join(dir, "none")}, fault.Input, "none: is no Python interpreter: no such file"},
		{"python directory", Options{Artifact: q4, Out: out, Python: dir}, fault.Input, "is no Python interpreter: is a directory"},
		{"reference", Options{Artifact: q4, Out: out, Reference: "x"}, fault.Usage, "compared on a text"},
		{"text", Options{Artifact: q4, Out: out, Python: "no-such-python", CheckData: filepath.Join(dir, "none")}, fault.Input, "none: cannot be read"},
		{"vocabulary", Options{Artifact: q4, Out: out, Python: "no-such-python", CheckData: text, Reference: exporttest.Copy(t, "llama2-f32")}, fault.Input, "tokens in its vocabulary"},
		{"name", Options{Artifact: q4, Out: out, Name: "a/b"}, fault.Usage, "cannot name an asset"},
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

// Without a compiler the bundle has everything else, and the same constants for equal inputs.
func TestSkipCompile(t *testing.T) {
	q, dir := exporttest.Demo(t, 3), t.TempDir()
	var bundles []map[string]string
	for _, name := range []string{"a", "b"} {
		r, err := Export(bg, Options{Artifact: q, Out: filepath.Join(dir, name), Name: "m", SkipCompile: true, Python: "no-such-python"})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Join(r.Command, " ") != "no-such-python "+filepath.Join(dir, name, "build", "bridge.py")+" "+filepath.Join(dir, name, "build") {
			t.Errorf("command %q", r.Command)
		}
		bundles = append(bundles, exporttest.Contents(t, filepath.Join(dir, name)))
	}
	for name, data := range bundles[0] {
		if bundles[1][name] != data {
			t.Errorf("%s differs between two exports", name)
		}
	}
	for _, name := range []string{"build/bridge.py", "build/requirements.txt", "build/job.json", "build/constants.bin", "metadata.json", "tokenizer/tokenizer.json"} {
		if bundles[0][filepath.FromSlash(name)] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	f, err := safetensors.Open(filepath.Join(q, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		if strings.HasSuffix(name, ".indices") || strings.HasSuffix(name, ".lut") || strings.HasSuffix(name, ".q") {
			if !strings.Contains(bundles[0]["build/constants.bin"], string(x.Bytes())) {
				t.Errorf("constants.bin does not have the bytes of %s", name)
			}
		}
	}
}

// An artifact whose projections are all kept has no compression.
func TestNoPalettes(t *testing.T) {
	q := exporttest.Quantize(t, quantize.Options{Model: "../../../internal/demo/model", Bits: 4, Overrides: []sensitivity.Override{{Pattern: "proj$", Bits: 16}}})
	out := filepath.Join(t.TempDir(), "m")
	if _, err := Export(bg, Options{Artifact: q, Out: out, SkipCompile: true}); err != nil {
		t.Fatal(err)
	}
	if m := exporttest.Contents(t, out)["metadata.json"]; strings.Contains(m, "compression") {
		t.Errorf("metadata %s", m)
	}
}

// What Apple's runner does not take is written, with a warning.
func TestWarnings(t *testing.T) {
	bare := exporttest.Quantize(t, quantize.Options{Model: exporttest.Copy(t, "llama2-f32"), GroupRows: 4}) // no tokenizer_config.json
	demo := exporttest.Demo(t, 4)
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{Artifact: demo}, ""},
		{Options{Artifact: demo, Shape: Static}, ""},
		{Options{Artifact: demo, Shape: Static, Context: 8}, "8 is not above the "},
		{Options{Artifact: bare}, "no tokenizer_config.json"},
	} {
		test.opts.Out, test.opts.SkipCompile = filepath.Join(t.TempDir(), "m"), true
		r, err := Export(bg, test.opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.Warnings, "\n"); !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%v: warnings %q, expected %q", test.opts, got, test.want)
		}
	}
}

// A program whose fp16 arithmetic costs more than usual is written, with a warning.
func TestBlurred(t *testing.T) {
	q := exporttest.Demo(t, 4)
	r, err := Export(bg, Options{Artifact: q, Out: filepath.Join(t.TempDir(), "m"), Python: fake(t, "blurred", q)})
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Check[0]; !(c.HalfKL > usualHalfKL && c.HalfKL < maxHalfKL) || !strings.Contains(strings.Join(r.Warnings, "\n"), "main: the fp16 program diverges") {
		t.Errorf("divergence %v, warnings %q", c.HalfKL, r.Warnings)
	}
}

// A cancelled export leaves neither files nor a process.
func TestCancelled(t *testing.T) {
	q, dir := exporttest.Demo(t, 4), t.TempDir()
	ctx, cancel := context.WithCancel(bg)
	p := &canceller{Reporter: progress.Silent, cancel: cancel}
	_, err := Export(ctx, Options{Artifact: q, Out: filepath.Join(dir, "m"), Python: fake(t, "hangs", q), Progress: p})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, expected a cancellation", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left %v", entries)
	}
}

// canceller cancels the job when it is compiling.
type canceller struct {
	progress.Reporter
	cancel context.CancelFunc
}

func (c *canceller) Stage(s progress.Stage) {
	if s.Name == StageCompile {
		c.cancel()
	}
}

// The requirements are packages by name and hash: nothing of the machine that made the list.
func TestRequirements(t *testing.T) {
	data, err := bridgefiles.Files.ReadFile(requirements)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if !regexp.MustCompile(`^(#|[a-z-]+==\S+ \\|    --hash=sha256:[0-9a-f]{64}|    # )`).MatchString(line) {
			t.Errorf("%s", line)
		}
	}
}

func TestOtherFamilies(t *testing.T) {
	exporttest.Refuses(t, func(artifact, out string) error {
		_, err := Export(bg, Options{Artifact: artifact, Out: out})
		return err
	})
}
