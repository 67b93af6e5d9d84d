package quantize

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	builtintext "afmq/internal/calibration"
	"afmq/internal/demo"
	"afmq/internal/kernel"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// identityOf returns the identity of a run.
func identityOf(t *testing.T, opts Options) []byte {
	t.Helper()
	if err := opts.check(); err != nil {
		t.Fatal(err)
	}
	src, err := artifact.OpenSource(bg, opts.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	r := &setup{opts: opts, src: src}
	if err := r.prepare(); err != nil {
		t.Fatal(err)
	}
	id, err := r.identity(bg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// leaves returns the dotted paths of the fields of a struct, and of the structs in it.
func leaves(prefix string, typ reflect.Type) (paths []string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		path := prefix + f.Name
		ft := f.Type
		if ft.Kind() == reflect.Pointer && ft.Elem().PkgPath() != "afmq/pkg/compute" {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			paths = append(paths, leaves(path+".", ft)...)
			continue
		}
		paths = append(paths, path)
	}
	return paths
}

// Changing an option changes the identity of the job, or is on a list with a reason.
func TestEveryOptionIsInTheIdentity(t *testing.T) {
	text := textFile(t, "calib.txt", strings.Repeat(story, 60))
	base := func() Options {
		return Options{
			Model: tinyModel, Out: "out", ToolVersion: "test",
			Calibration: sensitivity.CalibrationOptions{Files: []string{text}, SeqLen: 32, Tokens: 320},
		}
	}
	plan := func() Options {
		o := base()
		p := &sensitivity.Plan{Schema: sensitivity.PlanSchema, GroupRows: 16, RowScale: true}
		src, err := artifact.OpenSource(bg, tinyModel)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		for _, w := range src.Tensors {
			if strings.HasSuffix(w.Spec.Module(), "_proj") {
				p.Layers = append(p.Layers, sensitivity.PlanLayer{Name: w.Spec.Module(), Bits: 4})
			}
		}
		o.Plan = p
		return o
	}
	target := func() Options {
		o := base()
		o.Request = &sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 4}, Bits: []int{2, 4}}
		return o
	}
	tests := map[string]struct {
		base   func() Options
		change func(o *Options)
	}{
		"Plan.GroupRows":          {plan, func(o *Options) { o.Plan.GroupRows = 8 }},
		"Plan.RowScale":           {plan, func(o *Options) { o.Plan.RowScale = false }},
		"Plan.Layers":             {plan, func(o *Options) { o.Plan.Layers[3].Bits = 2 }},
		"Request.Target.BPW":      {target, func(o *Options) { o.Request.Target.BPW = 3.9 }},
		"Request.Target.MaxBytes": {target, func(o *Options) { o.Request.Target = sensitivity.Target{MaxBytes: 1 << 20} }},
		"Request.Target.Of":       {target, func(o *Options) { o.Request.Target.Of = sensitivity.OfModel }},
		"Request.Bits":            {target, func(o *Options) { o.Request.Bits = []int{2, 3} }},
		"Request.Forms": {target, func(o *Options) {
			o.Request.Bits, o.Request.Forms, o.Request.Target.BPW = nil, []artifact.Form{"q2_k", "q8_0"}, 8
		}},
		"Request.Ties": {target, func(o *Options) { o.Request.Ties = []sensitivity.Tie{sensitivity.TieQKV} }},
		"Method":       {target, func(o *Options) { o.Method = sensitivity.Weight }},
		"Bits":         {base, func(o *Options) { o.Bits = 3 }},
		"Overrides":    {base, func(o *Options) { o.Overrides = []sensitivity.Override{{Pattern: "down_proj", Bits: 8}} }},
		"Form":         {base, func(o *Options) { o.Form = "q4_0" }},
		"GroupRows":    {base, func(o *Options) { o.GroupRows = 8 }},
		"NoRowScale":   {base, func(o *Options) { o.NoRowScale = true }},
		"Calibration.Files": {base, func(o *Options) {
			o.Calibration.Files = []string{textFile(t, "calib.txt", strings.Repeat(story, 60)+"\n")}
		}},
		"Calibration.SeqLen": {base, func(o *Options) { o.Calibration.SeqLen = 16 }},
		"Calibration.Tokens": {base, func(o *Options) { o.Calibration.Tokens = 640 }},
		"Calibration.Seed":   {base, func(o *Options) { o.Calibration.Seed = 1 }},
		"Stats": {base, func(o *Options) {
			o.Calibration, o.Stats = sensitivity.CalibrationOptions{}, collectStats(t, tinyModel, text)
		}},
		"Compensate":  {base, func(o *Options) { o.Compensate = artifact.NoCompensation }},
		"Compute":     {base, func(o *Options) { o.Compute = compute.BF16 }},
		"ToolVersion": {base, func(o *Options) { o.ToolVersion = "test2" }},
	}
	bounded := func() Options {
		o := target()
		o.Request.Target, o.Request.Container = sensitivity.Target{MaxBytes: 1 << 30}, &sensitivity.Container{Align: 32}
		return o
	}
	for name, change := range map[string]func(c *sensitivity.Container){
		"Name": func(c *sensitivity.Container) { c.Name = "a file" }, "Overhead": func(c *sensitivity.Container) { c.Overhead = 1 }, "Align": func(c *sensitivity.Container) { c.Align = 64 },
	} {
		c := tests[""]
		c.base, c.change = bounded, func(o *Options) { change(o.Request.Container) }
		tests["Request.Container."+name] = c
	}
	const provenance = "the bits come from Layers, the stored form from GroupRows and RowScale; nothing else of a plan reaches the artifact"
	exempt := map[string]string{
		"Model":                "a path; config, files, tensors and weights are identified by content",
		"Out":                  "the saved state is beside it",
		"PlanFile":             "for error messages",
		"Request.Overrides":    "replaced by Overrides",
		"Request.ExportTarget": "replaced by ExportTarget",
		"Request.Seed":         "replaced by Calibration.Seed",
		"Restart":              "discards the saved state",
		"ExportTarget":         "refuses a run, or leaves it as it is",
		"Pool":                 "the result does not depend on the threads",
		"Threads":              "the result does not depend on the threads",
		"Memory":               "the result does not depend on where hidden states are",
		"Progress":             "reports only",
	}
	for _, name := range []string{"Schema", "ToolVersion", "Method", "Target.BPW", "Target.MaxBytes", "Target.Of", "ExportTarget", "Bits", "EndBits", "Tie", "BPW.Projections", "BPW.Model",
		"BPW.WithAdapter", "Bytes", "Cost", "LowerBound", "Optimal", "Baselines", "Overrides", "Seed", "Forms", "Container.Name", "Container.Overhead", "Container.Align", "Notes"} {
		exempt["Plan."+name] = provenance
	}
	for _, path := range leaves("", reflect.TypeFor[Options]()) {
		c, tested := tests[path]
		_, listed := exempt[path]
		if tested == listed {
			t.Errorf("Options.%s: needs a change that shows in the identity, or a reason why it need not (has both: %v)", path, tested)
		}
		if !tested {
			continue
		}
		o := c.base()
		before := identityOf(t, o)
		o = c.base()
		c.change(&o)
		if bytes.Equal(before, identityOf(t, o)) {
			t.Errorf("Options.%s: a change leaves the identity as it was", path)
		}
	}
	// Overrides also decide what a request plans.
	o := target()
	before := identityOf(t, o)
	o.Overrides = []sensitivity.Override{{Pattern: "down_proj", Bits: 8}}
	if bytes.Equal(before, identityOf(t, o)) {
		t.Error("the overrides of a request are not in the identity")
	}
	// Options that are exempt leave the identity alone.
	o = base()
	before = identityOf(t, o)
	o.Out, o.PlanFile, o.Restart, o.Threads, o.Progress, o.ExportTarget = "elsewhere", "p", true, 3, progress.Silent, "coreai-ios"
	if after := identityOf(t, o); !bytes.Equal(before, after) {
		t.Errorf("%s\n%s", before, after)
	}
}

// A run with calibration text depends on the class of kernels, because plain Go rounds the
// model's outputs in another order, and AMX tiles sum bfloat16 in another order. A run without
// text does not.
func TestIdentityOfKernels(t *testing.T) {
	levels := kernel.Levels()
	if len(levels) == 1 {
		t.Skip("this machine has no vector kernels")
	}
	level := kernel.Level()
	t.Cleanup(func() { kernel.SelectLevel(level) })
	plain := Options{Model: tinyModel, Out: "out"}
	text := plain
	text.Calibration = calibration(t)
	rounded := text
	rounded.Compute = compute.BF16
	var first, before [3][]byte // the identities at levels[0] and at the level before
	for i, l := range levels {
		if err := kernel.SelectLevel(l); err != nil {
			t.Fatal(err)
		}
		ids := [3][]byte{identityOf(t, plain), identityOf(t, text), identityOf(t, rounded)}
		if i == 0 {
			first, before = ids, ids
			continue
		}
		if !bytes.Equal(ids[0], first[0]) {
			t.Errorf("%s: without text the identity depends on the kernels", l)
		}
		if bytes.Equal(ids[1], first[1]) {
			t.Errorf("%s: with text the identity is that of %s", l, levels[0])
		}
		if i > 1 && !bytes.Equal(ids[1], before[1]) {
			t.Errorf("%s: in f32 the identity differs from that of %s", l, levels[i-1])
		}
		if bytes.Equal(ids[2], before[2]) {
			t.Errorf("%s: in bf16 the identity is that of %s", l, levels[i-1])
		}
		before = ids
	}
}

// Every copied file is in the identity.
func TestIdentityOfFiles(t *testing.T) {
	s := newSynthetic(safetensors.F16, false)
	opts := Options{Model: s.write(t, 1), Out: "out"}
	before := identityOf(t, opts)
	writeFile(t, filepath.Join(opts.Model, "generation_config.json"), []byte(`{"eos_token_id": 0}`))
	if bytes.Equal(before, identityOf(t, opts)) {
		t.Error("a copied file is not in the identity")
	}
}

// The identity of dequantize has all that its result depends on.
func TestDequantizeIdentity(t *testing.T) {
	art := smallArtifact(t)
	dir := t.TempDir()
	writeAdapter := func(alpha int) string {
		out := filepath.Join(dir, "adapter")
		config := map[string]any{"peft_type": "LORA", "r": 2, "lora_alpha": alpha, "target_modules": []string{"o_proj"}}
		data, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		mkdir(t, out)
		writeFile(t, filepath.Join(out, "adapter_config.json"), data)
		var tensors []tensor
		for _, layer := range []string{"0", "1"} {
			module := "base_model.model.model.layers." + layer + ".self_attn.o_proj."
			ones := func(n int) []byte {
				v := make([]float32, n)
				for i := range v {
					v[i] = 1
				}
				return float32Bytes(v)
			}
			tensors = append(tensors, tensor{module + "lora_A.weight", safetensors.F32, []int{2, synHidden}, ones(2 * synHidden)},
				tensor{module + "lora_B.weight", safetensors.F32, []int{synHidden, 2}, ones(2 * synHidden)})
		}
		writeTensors(t, filepath.Join(out, "adapter_model.safetensors"), tensors)
		return out
	}
	id := func(o DequantizeOptions) []byte {
		t.Helper()
		a, err := artifact.Open(o.Artifact)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		d := &dequantizer{a: a, dtype: o.DType}
		if err := d.openAdapter(o); err != nil {
			t.Fatal(err)
		}
		id, err := d.identity(bg, o)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	base := func() DequantizeOptions {
		return DequantizeOptions{Artifact: art, Out: "out", Adapter: writeAdapter(4), AllowUnbound: true, ToolVersion: "test", DType: safetensors.F16}
	}
	changes := map[string]func(o *DequantizeOptions){
		"Artifact": func(o *DequantizeOptions) {
			o.Artifact, _ = run(t, newPool(t, 1), Options{Model: newSynthetic(safetensors.F16, true).write(t, 1), Bits: 2})
		},
		"Adapter":     func(o *DequantizeOptions) { o.Adapter = writeAdapter(8) }, // only lora_alpha differs
		"ToolVersion": func(o *DequantizeOptions) { o.ToolVersion = "test2" },
		"DType":       func(o *DequantizeOptions) { o.DType = safetensors.F32 },
	}
	exempt := map[string]string{
		"Out":          "the saved state is beside it",
		"AllowUnbound": "whether the adapter is accepted, not what it does",
		"Restart":      "discards the saved state",
		"Pool":         "the result does not depend on the threads",
		"Threads":      "the result does not depend on the threads",
		"Progress":     "reports only",
	}
	for _, path := range leaves("", reflect.TypeFor[DequantizeOptions]()) {
		change, tested := changes[path]
		if _, listed := exempt[path]; tested == listed {
			t.Errorf("DequantizeOptions.%s: needs a change that shows in the identity, or a reason why it need not", path)
		}
		if !tested {
			continue
		}
		before := id(base())
		o := base()
		change(&o)
		if bytes.Equal(before, id(o)) {
			t.Errorf("DequantizeOptions.%s: a change leaves the identity as it was", path)
		}
	}
}

// The manifest says whether a text was the built-in one. So a run does not resume the job of
// one that read the same text from a file.
func TestIdentityOfBuiltinText(t *testing.T) {
	dir := t.TempDir()
	if err := demo.Extract(dir); err != nil {
		t.Fatal(err)
	}
	o := Options{Model: dir, Out: "out", Calibration: sensitivity.CalibrationOptions{Files: []string{sensitivity.BuiltinText}, SeqLen: 32, Tokens: 64}}
	builtin := identityOf(t, o)
	if !bytes.Equal(builtin, identityOf(t, o)) {
		t.Error("the same job has two identities")
	}
	o.Calibration.Files = []string{textFile(t, "documents.jsonl", string(builtintext.JSONL()))}
	if bytes.Equal(builtin, identityOf(t, o)) {
		t.Error("the file of the text has the identity of the built-in text")
	}
}
