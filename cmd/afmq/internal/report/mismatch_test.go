package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// TestWrongInput gives each option a file of the wrong kind or of another model.
func TestWrongInput(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write(t, file("text"), []byte("hello"))
	eval := func(name, model string, change func(map[string]any)) string {
		return writeEval(t, dir, name, model, 3.6, 0.07, change)
	}
	good := eval("good.json", in("mixed"), nil)
	set := func(key string, v any) func(map[string]any) { return func(e map[string]any) { e[key] = v } }
	replaced(t, in("plan.json"), file("plan.json"), `"bits": 2,`, `"bits": 4,`, `"target"`, `"target"`)
	replaced(t, file("plan.json"), file("grouped.json"), `"group_rows": 16`, `"group_rows": 32`)
	replaced(t, in("scores.json"), file("scores.json"), `\"vocab_size\"`, ` \"vocab_size\"`)
	for _, name := range []string{"lost", "other", "nometrics"} {
		if err := os.CopyFS(file(name), os.DirFS(in("recovered"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(file("lost/recovery.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file("nometrics/metrics.jsonl")); err != nil {
		t.Fatal(err)
	}
	record, _ := recoveryFiles(strings.Repeat("ab", 32))
	write(t, file("other/recovery.json"), []byte(record))
	write(t, file("baseline"), []byte(`{"schema":"afmq.baseline/v1","model":{"kind":"artifact"}}`))
	broken := func(name string, change func(dir string)) string {
		if err := os.CopyFS(file(name), os.DirFS(in("mixed"))); err != nil {
			t.Fatal(err)
		}
		change(file(name))
		return file(name)
	}

	for name, c := range map[string]struct {
		change func(o *Options)
		kind   fault.Kind
		want   string
	}{
		"no artifact":       {func(o *Options) { o.Artifact = file("none") }, fault.Input, "none: does not exist"},
		"checkpoint":        {func(o *Options) { o.Artifact = in("model") }, fault.Input, "is not an artifact"},
		"file":              {func(o *Options) { o.Artifact = file("text") }, fault.Input, "is not an artifact"},
		"config changed":    {func(o *Options) { o.Artifact = broken("a", appendTo("config.json")) }, fault.Input, "config.json: has"},
		"weights cut":       {func(o *Options) { o.Artifact = broken("b", appendTo("model.safetensors")) }, fault.Input, "model.safetensors: has"},
		"manifest changed":  {func(o *Options) { o.Artifact = broken("c", appendTo("manifest.json")) }, fault.Input, "manifest.sha256: is not the SHA-256 of"},
		"no scores":         {func(o *Options) { o.Scores = file("none") }, fault.Input, "none: cannot be read"},
		"text for scores":   {func(o *Options) { o.Scores = file("text") }, fault.Input, "is not a file of scores"},
		"scores of another": {func(o *Options) { o.Scores = file("scores.json") }, fault.Input, "belongs to another model"},
		"text for a plan":   {func(o *Options) { o.Plan = file("text") }, fault.Input, "is not a plan"},
		"another plan":      {func(o *Options) { o.Plan = file("plan.json") }, fault.Input, "bits, not 4"},
		"other storage":     {func(o *Options) { o.Plan = file("grouped.json") }, fault.Input, "group size or row scales differ"},
		"no record":         {func(o *Options) { o.Recoveries = []string{file("lost")} }, fault.Input, "recovery.json: is missing"},
		"no metrics":        {func(o *Options) { o.Recoveries = []string{file("nometrics")} }, fault.Input, "metrics.jsonl: is missing"},
		"other recovery":    {func(o *Options) { o.Recoveries = []string{file("other")} }, fault.Input, "is a recovery of another artifact"},
		"recovery twice":    {func(o *Options) { o.Recoveries = []string{in("recovered"), in("recovered") + "/"} }, fault.Usage, "is given twice"},

		"no eval":           {func(o *Options) { o.Evals = []string{file("none")} }, fault.Input, "none: is missing"},
		"text for eval":     {func(o *Options) { o.Evals = []string{file("text")} }, fault.Input, "text: is not an evaluation"},
		"other schema":      {func(o *Options) { o.Evals = []string{eval("1", in("mixed"), set("schema", "afmq.plan/v1"))} }, fault.Input, `schema is "afmq.plan/v1"`},
		"baseline for eval": {func(o *Options) { o.Evals = []string{file("baseline")} }, fault.Input, `its schema is "afmq.baseline/v1"`},
		"config for eval":   {func(o *Options) { o.Evals = []string{in("model") + "/config.json"} }, fault.Input, "it has no schema"},
		"failed command": {func(o *Options) {
			o.Evals = []string{eval("2", in("mixed"), set("error", map[string]string{"message": "no space"}))}
		}, fault.Input, `the command failed: "no space"`},
		"no model":    {func(o *Options) { o.Evals = []string{eval("3", "", nil)} }, fault.Input, "model or data is missing"},
		"no identity": {func(o *Options) { o.Evals = []string{eval("4", in("mixed"), set("identity", nil))} }, fault.Input, "4: does not say by content what it evaluated"},
		"half identity": {func(o *Options) {
			o.Evals = []string{eval("18", in("mixed"), set("identity", map[string]any{"data": dataDigest}))}
		}, fault.Input, "18: is not an evaluation: identity"},
		"wrong interval": {func(o *Options) { o.Evals = []string{eval("19", in("mixed"), set("kl_interval", interval(0.2, 0.01)))} }, fault.Input, "19: is not an evaluation: an interval of 0.19"},
		"stray reference": {func(o *Options) {
			o.Evals = []string{eval("20", in("mixed"), identify(func(id map[string]any) { id["reference"] = strings.Repeat("ef", 32) }))}
		}, fault.Input, "20: compares"},
		"other tokenizer": {func(o *Options) {
			o.Evals = []string{eval("21", in("mixed"), identify(func(id map[string]any) { id["tokenizer"] = strings.Repeat("ef", 32) }))}
		}, fault.Input, "whose tokenizer.json differs"},
		"wrong gate": {func(o *Options) {
			o.Evals = []string{eval("22", in("mixed"), set("gate", map[string]any{"outcome": "no_worse", "checks": []any{map[string]any{"name": "kl", "value": 2, "limit": 1, "outcome": "no_worse"}}}))}
		}, fault.Input, `22: is not an evaluation: gate: the check "kl"`},
		"other model":     {func(o *Options) { o.Evals = []string{eval("5", in("strange"), nil)} }, fault.Input, "an artifact of another checkpoint"},
		"other source":    {func(o *Options) { o.Evals = []string{eval("6", in("stranger"), nil)} }, fault.Input, "which is not the checkpoint that"},
		"same twice":      {func(o *Options) { o.Evals = []string{good, eval("7", in("mixed"), nil)} }, fault.Input, "7: duplicates"},
		"other text":      {func(o *Options) { o.Evals = []string{good, eval("8", in("four"), set("tokens", 999))} }, fault.Input, "8: scored 999 tokens"},
		"other reference": {func(o *Options) { o.Evals = []string{good, eval("9", in("four"), reference(40))} }, fault.Input, "not the same reference"},
		"perplexity":      {func(o *Options) { o.Evals = []string{eval("10", in("mixed"), set("perplexity", 12.0))} }, fault.Input, "a perplexity of 12"},
		"ratio":           {func(o *Options) { o.Evals = []string{eval("11", in("mixed"), set("perplexity_ratio", 1.0))} }, fault.Input, "is not 1 times"},
		"share":           {func(o *Options) { o.Evals = []string{eval("12", in("mixed"), set("same_top1", 1.5))} }, fault.Input, "shares of 1.5"},
		"divergence": {func(o *Options) {
			o.Evals = []string{eval("13", in("mixed"), set("kl", map[string]float64{"mean": -1}))}
		}, fault.Input, "a divergence of -1"},
		"half comparison": {func(o *Options) { o.Evals = []string{eval("14", in("mixed"), set("reference_perplexity", nil))} }, fault.Input, "is not 1."},
		"protocol":        {func(o *Options) { o.Evals = []string{eval("15", in("mixed"), set("protocol", "mine"))} }, fault.Input, `protocol "mine"`},
		"tokens":          {func(o *Options) { o.Evals = []string{eval("16", in("mixed"), set("tokens", 0))} }, fault.Input, "0 tokens"},
		"adapter": {func(o *Options) {
			o.Evals = []string{eval("17", in("mixed"), set("adapters", []any{map[string]any{"name": "x"}}))}
		}, fault.Input, "it has no figures"},
	} {
		o := Options{Artifact: in("mixed")}
		c.change(&o)
		_, err := Make(bg, pool, o)
		if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, expected %q of kind %v", name, err, c.want, c.kind)
		}
	}
}

func appendTo(name string) func(dir string) {
	return func(dir string) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write([]byte("\n"))
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			panic(err)
		}
	}
}

// reference changes the perplexity of an evaluation's reference.
func reference(perplexity float64) func(map[string]any) {
	return func(e map[string]any) {
		e["reference_perplexity"], e["perplexity_ratio"] = perplexity, e["perplexity"].(float64)/perplexity
	}
}

// identify changes the identity of an evaluation.
func identify(change func(id map[string]any)) func(map[string]any) {
	return func(e map[string]any) { change(e["identity"].(map[string]any)) }
}

// interval is a confidence interval of half this width.
func interval(mean, half float64) map[string]any {
	return map[string]any{"mean": mean, "se": half / 2, "low": mean - half, "high": mean + half, "confidence": 0.95, "windows": 40, "batches": 6}
}

// FuzzEval checks that a modified evaluation is either refused as bad input or has possible
// figures.
func FuzzEval(f *testing.F) {
	path := writeEval(f, f.TempDir(), "e.json", "m", 3.6, 0.07, func(e map[string]any) {
		a := figures(3.5, 0.1, 1000)
		a["name"], a["identity"] = "a", adapterIdentity()
		e["adapters"], e["kl_interval"] = []any{a}, interval(0.07, 0.01)
	})
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseEval("e", data)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatal(err)
			}
			return
		}
		if e.Identity == nil || !infile.IsSHA256(e.Identity.Model.Digest) {
			t.Fatalf("%+v", e.Identity)
		}
		if !(e.Perplexity >= 1) || e.Tokens < 1 || e.Comparison != nil && !(e.KL.Mean >= 0) {
			t.Fatalf("%+v", e.Result)
		}
	})
}
