package gate

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/demo"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/quantize"
)

// gateFiles returns options for a 2-bit artifact of the embedded model, text that the model
// wrote and a baseline that does not exist yet.
func gateFiles(t *testing.T) Options {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := demo.Extract(in("model")); err != nil {
		t.Fatal(err)
	}
	m, err := infer.Open(ctx, in("model"), infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	texts, err := m.SampleTexts(ctx, nil, 16, 60, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("text.txt"), []byte(strings.Join(texts, "\n\n")), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := quantize.Run(ctx, quantize.Options{Model: in("model"), Out: in("q2"), Bits: 2}); err != nil {
		t.Fatal(err)
	}
	return Options{Artifact: in("q2"), Baseline: in("base.json"), Data: in("text.txt"), Reference: in("model"), Ctx: 64, Update: true}
}

func mustRun(t *testing.T, o Options) *Result {
	t.Helper()
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An update replaces no baseline whose divergence is lower, or would be lost, although the
// loss is no worse.
func TestUpdateKeepsDivergence(t *testing.T) {
	o := gateFiles(t)
	if r := mustRun(t, o); !r.Updated || r.KLMean == nil || len(r.Checks) != 0 {
		t.Fatalf("%+v", r)
	}
	b, err := ReadBaseline(o.Baseline)
	if err != nil {
		t.Fatal(err)
	}
	// A baseline of a model with a larger loss and no divergence.
	b.NatsPerToken, *b.KLMean = b.NatsPerToken+0.5, 0
	for i := range b.Windows {
		b.Windows[i].Nats += 0.5
		*b.Windows[i].KL = 0
	}
	if err := b.Write(o.Baseline); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(o.Baseline)
	if err != nil {
		t.Fatal(err)
	}
	unchanged := func() {
		t.Helper()
		if now, err := os.ReadFile(o.Baseline); err != nil || !bytes.Equal(now, kept) {
			t.Errorf("the baseline was replaced: %v", err)
		}
	}

	r := mustRun(t, o)
	if r.Updated || !r.Kept || r.Decision != Worse || len(r.Checks) != 2 || r.Checks[0].Outcome != NoWorse || r.Checks[1].Name != KLRise || r.Checks[1].Limit != DefaultNats {
		t.Errorf("with the default margin: %+v", r.Verdict)
	}
	unchanged()
	o.Limits.Nats = 0.02
	if r := mustRun(t, o); len(r.Checks) != 2 || r.Checks[1].Limit != 0.02 {
		t.Errorf("with the margin of the loss: %+v", r.Verdict)
	}
	unchanged()

	plain := o
	plain.Update = false
	if r := mustRun(t, plain); r.Decision != NoWorse || len(r.Checks) != 1 || len(r.Warnings) != 0 {
		t.Errorf("without an update: %+v, %q", r.Verdict, r.Warnings)
	}
	plain.Reference = ""
	if r := mustRun(t, plain); r.Decision != NoWorse || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "base.json: its divergence from the reference is not compared") {
		t.Errorf("without a reference: %+v, %q", r.Verdict, r.Warnings)
	}

	noRef := o
	noRef.Reference = ""
	_, err = Run(context.Background(), noRef)
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != fault.Input || !strings.Contains(f.Msg, "records divergences") || !strings.Contains(f.Hint, "--reference; --update --accept-worse") {
		t.Errorf("an update without a reference: %v", err)
	}
	unchanged()
	noRef.AcceptWorse = true
	if r := mustRun(t, noRef); !r.Updated || !r.Accepted || r.Nats != nil {
		t.Errorf("accepted: %+v", r)
	}
	// It has no divergence to compare with now.
	o.Limits.KLRise = ptr(0.1)
	_, err = Run(context.Background(), o)
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "records no divergence") {
		t.Error(err)
	}
	o.AcceptWorse = true
	if r := mustRun(t, o); !r.Updated || !r.Accepted || r.KLMean == nil {
		t.Errorf("accepted: %+v", r)
	}
}

// Limits that are no limits, and outputs that are inputs, are refused before anything is read.
func TestRunRefusesOptions(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"artifact/sub", "reference", "adapter"} {
		if err := os.MkdirAll(in(d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"text.txt", "base.json", "artifact/manifest.json"} {
		if err := os.WriteFile(in(f), []byte("{}"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range [][2]string{{"artifact", "link"}, {"text.txt", "text-link"}, {"elsewhere", "output-link"}} {
		if err := os.Symlink(in(l[0]), in(l[1])); err != nil {
			t.Skip(err)
		}
	}
	o := Options{Artifact: in("artifact"), Baseline: in("base.json"), Data: in("text.txt"), Reference: in("reference"), Adapter: &eval.Adapter{Dir: in("adapter")}}
	for _, file := range []string{"text.txt", "base.json", "artifact/manifest.json", "artifact/new.xml", "artifact/sub/new.xml", "link/new.xml",
		"reference/new.xml", "adapter/new.xml", "artifact/../text.txt", "sub/../base.json"} {
		if err := o.CheckOutput(dir + "/" + file); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, file := range []string{"new.xml", "artifact.xml", "output-link"} {
		if err := o.CheckOutput(in(file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	linked := o
	linked.Data = in("text-link")
	if err := linked.CheckOutput(in("text.txt")); fault.KindOf(err) != fault.Usage {
		t.Errorf("data through a link: %v", err)
	}

	for name, change := range map[string]func(o *Options){
		"baseline is data":        func(o *Options) { o.Baseline, o.Update = o.Data, true },
		"baseline in artifact":    func(o *Options) { o.Baseline, o.Update = in("artifact/base.json"), true },
		"negative margin":         func(o *Options) { o.Limits.Nats = -1 },
		"bytes":                   func(o *Options) { o.Limits.Bytes = ptr(int64(0)) },
		"bits":                    func(o *Options) { o.Limits.BPW = ptr(-1.0) },
		"divergence without any":  func(o *Options) { o.Limits.KL, o.Reference = ptr(1.0), "" },
		"its rise without any":    func(o *Options) { o.Limits.KLRise, o.Reference = ptr(1.0), "" },
		"divergence limit of 0":   func(o *Options) { o.Limits.KL = ptr(0.0) },
		"accept without updating": func(o *Options) { o.AcceptWorse = true },
	} {
		c := o
		change(&c)
		if _, err := Run(context.Background(), c); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
}
