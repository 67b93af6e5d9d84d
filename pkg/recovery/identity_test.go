package recovery

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
)

// identityOf returns the identity of a run without running it.
func identityOf(t *testing.T, o Options) string {
	t.Helper()
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	r := &run{pool: o.Pool, opts: &o}
	if err := r.open(bg); err != nil {
		t.Fatal(err)
	}
	id, err := r.identity()
	if err != nil {
		t.Fatal(err)
	}
	return string(id)
}

// unrelated are the options that the result does not depend on, each with the reason.
var unrelated = map[string]string{
	"Out":          "the name of the directory is not in the files",
	"Recompute":    "the same sums, computed at another time; TestSameBytes holds the bytes together",
	"AllowUnbound": "permits an adapter, whose content is in the identity",
	"AllowTeacher": "permits a teacher, whose content is in the identity",
	"Restart":      "discards a state, and so never continues one",
	"Pool":         "results do not depend on the number of threads; its arithmetic is set by Compute",
	"Threads":      "results do not depend on the number of threads",
	"Progress":     "only reports",
	"Torchrun":     "each of the two continues what the other saved; the record says which made which steps",
}

// Every field of Options changes the identity of a run, or is listed as one that must not.
// A new field fails the test until it is in one of the lists.
func TestIdentityHasEveryOption(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	base := b.options(t)
	base.Pool = pool
	dir := t.TempDir()
	three, teacher, text := filepath.Join(dir, "three"), filepath.Join(dir, "teacher"), filepath.Join(dir, "text.jsonl")
	if _, err := quantize.Run(bg, quantize.Options{Pool: pool, NoRowScale: true, Model: b.model, Out: three, Bits: 3}); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(teacher, os.DirFS(b.model)); err != nil {
		t.Fatal(err)
	}
	flipLastByte(t, filepath.Join(teacher, "model.safetensors"))
	lines, err := os.ReadFile(b.text)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, append([]byte("\n"), lines...), 0o666); err != nil {
		t.Fatal(err)
	}
	parent := base
	parent.Tokens = 64
	if _, err := Run(bg, parent); err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(*Options){
		"Artifact":       func(o *Options) { o.Artifact = three },
		"Teacher":        func(o *Options) { o.Teacher, o.AllowTeacher = teacher, true },
		"Data":           func(o *Options) { o.Data = []string{text} },
		"Ranks":          func(o *Options) { o.Ranks = []int{3} },
		"Alpha":          func(o *Options) { o.Alpha = 3 },
		"RSLoRA":         func(o *Options) { o.RSLoRA = true },
		"Targets":        func(o *Options) { o.Targets = []string{"mlp"} },
		"Pattern":        func(o *Options) { o.Pattern = []RankPattern{{"mlp", 3}} },
		"Init":           func(o *Options) { o.Init = InitPlain },
		"From":           func(o *Options) { o.From, o.Ranks = filepath.Join(parent.Out, "rank-2"), nil },
		"Loss":           func(o *Options) { o.Loss = LossCE },
		"Mix":            func(o *Options) { o.Mix = 0.25 },
		"Temperature":    func(o *Options) { o.Temperature = 2 },
		"Tokens":         func(o *Options) { o.Tokens = 7 * 64 },
		"SeqLen":         func(o *Options) { o.SeqLen = 32 },
		"BatchTokens":    func(o *Options) { o.BatchTokens = 128 },
		"Rate":           func(o *Options) { o.Rate = 1e-4 },
		"Warmup":         func(o *Options) { o.Warmup = 0.3 },
		"WeightDecay":    func(o *Options) { o.WeightDecay = 0.1 },
		"Clip":           func(o *Options) { o.Clip = 2 },
		"Seed":           func(o *Options) { o.Seed = 1 },
		"Validation":     func(o *Options) { o.Validation = 150 },
		"InitTokens":     func(o *Options) { o.InitTokens = 64 },
		"Float32":        func(o *Options) { o.Float32 = true },
		"RankAllocation": func(o *Options) { o.RankAllocation = RanksByLoss },
		"Float8":         func(o *Options) { o.Float8 = true },
		"Compute":        func(o *Options) { o.Compute = compute.BF16 },
		"ToolVersion":    func(o *Options) { o.ToolVersion = "another" },
		"TeacherTopK":    func(o *Options) { o.TeacherTopK, o.Torchrun = 8, &Torchrun{} },

		"Out":          func(o *Options) { o.Out += "2" },
		"Recompute":    func(o *Options) { o.Recompute = true },
		"AllowUnbound": func(o *Options) { o.AllowUnbound = true },
		"AllowTeacher": func(o *Options) { o.AllowTeacher = true },
		"Restart":      func(o *Options) { o.Restart = true },
		"Pool":         func(o *Options) { o.Pool = nil },
		"Threads":      func(o *Options) { o.Threads = 3 },
		"Progress":     func(o *Options) { o.Progress = progress.Silent },
		"Torchrun": func(o *Options) {
			o.Torchrun = &Torchrun{Python: "python", Processes: 2, Args: []string{"--nnodes=2"}, Parallel: FSDP, MicroBatch: 1, Packed: true, Compile: true}
		},
	}
	want := identityOf(t, base)
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Options]()) {
		change, there := changes[f.Name]
		if !there {
			t.Errorf("Options.%s: say here whether the result depends on it", f.Name)
			continue
		}
		o := base
		change(&o)
		same := identityOf(t, o) == want
		if _, may := unrelated[f.Name]; same != may {
			t.Errorf("Options.%s: the identity is the same: %v, want %v", f.Name, same, may)
		}
	}
	if again := identityOf(t, base); again != want {
		t.Error("the identity of the same options differs")
	}
}

// What a file holds, and how it is read, counts even where no option changes.
func TestIdentityHasEveryFile(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	dir := t.TempDir()
	art := filepath.Join(dir, "artifact")
	if err := os.CopyFS(art, os.DirFS(b.artifact)); err != nil {
		t.Fatal(err)
	}
	parent := b.options(t)
	parent.Tokens, parent.Pool = 64, pool
	if _, err := Run(bg, parent); err != nil {
		t.Fatal(err)
	}
	from := filepath.Join(parent.Out, "rank-2")
	o := b.options(t)
	o.Artifact, o.From, o.Ranks, o.Pool = art, from, nil, pool
	seen := map[string]string{identityOf(t, o): "the first run"}
	check := func(what string) {
		t.Helper()
		id := identityOf(t, o)
		if before, there := seen[id]; there {
			t.Errorf("%s: the identity is that of %s", what, before)
		}
		seen[id] = what
	}
	rewrite := func(path, old, now string) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), old) {
			t.Fatalf("%s does not hold %s", path, old)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(data), old, now, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(filepath.Join(from, adapter.ConfigFile), `"lora_alpha": 2`, `"lora_alpha": 20`)
	check("another lora_alpha")
	rewrite(filepath.Join(art, "config.json"), "{", "{\n")
	check("another config.json")
	rewrite(filepath.Join(art, "tokenizer.json"), "{", "{\n")
	check("another tokenizer.json")

	lines, err := os.ReadFile(b.text)
	if err != nil {
		t.Fatal(err)
	}
	one, two, asText := filepath.Join(dir, "1.jsonl"), filepath.Join(dir, "2.jsonl"), filepath.Join(dir, "1.txt")
	for path, data := range map[string][]byte{one: lines, two: append([]byte("\n"), lines...), asText: lines} {
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, data := range [][]string{{one, two}, {two, one}, {asText}} {
		o.Data = data
		check(strings.Join(data, " then "))
	}
}

// An interrupted run that starts from an adapter is not continued once somebody edits the
// adapter's configuration: the scale of its weights is another.
func TestResumeRefusesEditedParent(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	parent := b.options(t)
	mustRun(t, pool, parent)
	from := filepath.Join(parent.Out, "rank-2")
	o := b.options(t)
	o.Ranks, o.From = nil, from
	ctx, cancel := context.WithCancel(bg)
	o.Progress = &stopAt{Reporter: progress.Silent, steps: 2, cancel: cancel}
	if _, err := runOn(ctx, pool, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	path := filepath.Join(from, adapter.ConfigFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(data), `"lora_alpha": 2`, `"lora_alpha": 64`, 1)
	if edited == string(data) {
		t.Fatalf("no lora_alpha in %s", data)
	}
	if err := os.WriteFile(path, []byte(edited), 0o666); err != nil {
		t.Fatal(err)
	}
	o.Progress = nil
	_, err = runOn(bg, pool, o)
	wantFault(t, err, fault.Input, "from_config was")
}

// The identity has the class of the kernels: vector levels agree in f32, and no two levels are
// taken for equal in bf16. A run that was interrupted on one class is refused on another.
func TestIdentityOfKernels(t *testing.T) {
	levels := kernel.Levels()
	if len(levels) == 1 {
		t.Skip("this machine has no vector kernels")
	}
	level := kernel.Level()
	t.Cleanup(func() { kernel.SelectLevel(level) })
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Pool = pool
	rounded := o
	rounded.Compute = compute.BF16
	exact, seen := map[string]bool{}, map[string]bool{}
	for _, l := range levels {
		if err := kernel.SelectLevel(l); err != nil {
			t.Fatal(err)
		}
		exact[identityOf(t, o)], seen[identityOf(t, rounded)] = true, true
	}
	if len(exact) != 2 || len(seen) != len(levels) {
		t.Errorf("levels %v: %d identities in f32, want 2; %d in bf16, want one each", levels, len(exact), len(seen))
	}
	interrupted := func(o Options, l, now, message string) {
		t.Helper()
		if err := kernel.SelectLevel(l); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(bg)
		o.Out, o.Progress = filepath.Join(t.TempDir(), "out"), &stopAt{Reporter: progress.Silent, steps: 2, cancel: cancel}
		if _, err := runOn(ctx, pool, o); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := kernel.SelectLevel(now); err != nil {
			t.Fatal(err)
		}
		o.Progress = nil
		_, err := runOn(bg, pool, o)
		wantFault(t, err, fault.Input, message)
	}
	best := levels[len(levels)-1]
	interrupted(o, best, "generic", `kernels was "vector" and is now "generic"`)
	if best == "amx" {
		interrupted(rounded, "amx", "avx512", `kernels was "amx" and is now "avx512"`)
	}
}
