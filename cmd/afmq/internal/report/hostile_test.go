package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/gate"
	"afmq/pkg/recovery"
)

func mustMetrics(t *testing.T, lines string) []recovery.Metric {
	t.Helper()
	m, err := recovery.ParseMetrics("metrics", []byte(lines))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// evil is a name with markup, CSS, attribute, template and shell injections, and a character
// that reverses the direction of text.
const evil = `"><img src=x onerror=alert(1)><script>'{{.}}'` + "`$(id)`; * <b>&amp;\u202e\n\x01"

// The allowed elements and attributes of a page; none of them runs or loads anything.
var (
	elements = strings.Fields(`html head meta link title style body header h1 h2 h3 p nav a main section figure div span svg rect path circle text g
		ul li i b input label details summary table caption thead tbody tfoot tr th td dl dt dd pre code footer br strong mark`)
	attributes = strings.Fields(`lang charset http-equiv content name rel href id class style aria-labelledby aria-label aria-hidden role tabindex scope title
		type for checked viewBox preserveAspectRatio x y dx dy cx cy r width height d text-anchor`)
)

// harmless fails on elements and attributes that could run scripts, load resources or link
// elsewhere.
func harmless(t *testing.T, page string) {
	t.Helper()
	for _, e := range parse(t, page) {
		if !slices.Contains(elements, e.name) {
			t.Errorf("there is an element %q: %q", e.name, e.text)
		}
		for name, value := range e.attrs {
			if !slices.Contains(attributes, name) {
				t.Errorf("element %s has an attribute %q: %q", e.name, name, value)
			}
			if name == "href" && value != "data:," && !strings.HasPrefix(value, "#") {
				t.Errorf("a link leads to %q", value)
			}
			if name == "style" {
				t.Errorf("element %s has a style: %q", e.name, value)
			}
			if e.name == "input" && name == "type" && value != "radio" {
				t.Errorf("there is an input of type %q", value)
			}
		}
		if e.name == "style" && (strings.Contains(e.text, "url(") || strings.Contains(e.text, "@import")) {
			t.Error("the style sheet loads something")
		}
	}
	if strings.Contains(page, "\u202e") || strings.Contains(page, "\x01") {
		t.Error("a character that does not print is in the page")
	}
}

func TestFullPageIsHarmless(t *testing.T) {
	_, page := mustMake(t, everything(t))
	harmless(t, page)
	if !strings.Contains(page, `content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"`) {
		t.Error("the page has no content security policy")
	}
}

func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	art := filepath.Join(dir, evil)
	if err := os.CopyFS(art, os.DirFS(in("mixed"))); err != nil {
		t.Fatal(err)
	}
	m, err := artifact.ReadManifest(art)
	if err != nil {
		t.Fatal(err)
	}
	// Texts in a manifest are untrusted too.
	m.ToolVersion, m.Arithmetic, m.Plan.Compensation, m.Plan.Modules[0].Warning = evil, evil, evil, evil
	m.Plan.Choice = &artifact.ChoiceRecord{By: artifact.ByTarget, BPW: 3.5, Method: evil, Tie: []string{evil}, Overrides: []string{evil}}
	manifest, digest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(art, "manifest.json"), manifest)
	write(t, filepath.Join(art, "manifest.sha256"), digest)
	rec := filepath.Join(dir, "rec"+evil)
	if err := os.CopyFS(rec, os.DirFS(in("recovered"))); err != nil {
		t.Fatal(err)
	}
	hostile, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	job := fmt.Sprintf(`"job":{"data":[%s],"data_formats":[%[1]s],"init":%[1]s,"loss":%[1]s,"targets":[%[1]s],"rank_pattern":[{"pattern":%[1]s,"rank":2}],`, hostile)
	replaced(t, in("recovered", "recovery.json"), filepath.Join(rec, "recovery.json"), `"job":{`, job)
	o := everything(t)
	o.Samples.Prompts, o.DeviceNames = []string{evil}, []string{evil}
	o.Gates = []string{writeGate(t, dir, "gate"+evil, in("mixed"), 0.05, func(g *gateFile) {
		g.Data, g.Baseline, g.Adapter, g.Reference, g.Checks[0].Message, g.Checks[0].Name = evil, evil, evil, evil, evil, gate.Quantity(evil)
		g.Model.Adapter = &g.Setting.Data
	})}
	o.Artifact, o.Recoveries = art, []string{rec}
	o.Evals = []string{writeEval(t, dir, "e"+evil, art, 3.6, 0.07, func(e map[string]any) {
		e["data"], e["compute"], e["reference"] = evil, evil, evil
		a := figures(3.55, 0.05, 1000)
		a["name"], a["path"], a["identity"] = evil, evil, adapterIdentity()
		e["adapters"] = []any{a}
	}), writeEval(t, dir, "four", in("four"), 3.55, 0.06, func(e map[string]any) { e["data"], e["compute"] = evil, evil })}
	o.Plan = filepath.Join(dir, "plan"+evil)
	replaced(t, in("plan.json"), o.Plan, `"name": "uniform"`, `"name": "<script>alert(2)</script>"`, "bits everywhere", "<img src=x>")
	o.Scores = filepath.Join(dir, "scores"+evil)
	replaced(t, in("scores.json"), o.Scores, `"unit": "`, `"unit": "<script>alert(3)</script>`)
	_, page := mustMake(t, o)
	harmless(t, page)
	if want := `\u202e\u000a\u0001`; strings.Count(page, want) < 8 {
		t.Errorf("the name is written out %d times", strings.Count(page, want))
	}
	// In the commands of missing sections the name is one quoted word.
	r, page := mustMake(t, Options{Artifact: art})
	harmless(t, page)
	for _, s := range r.Sections {
		if s.ID == "recovery" && !strings.Contains(s.Command, `$'`+strings.ReplaceAll(dir, "'", `\'`)+`/"><img src=x onerror=alert(1)><script>\'{{.}}\'`+"`$(id)`; * <b>&amp;"+`\xe2\x80\xae\x0a\x01' --teacher`) {
			t.Errorf("the command is %s", s.Command)
		}
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// replaced copies a file with some of its text replaced; the text must occur.
func replaced(t *testing.T, from, to string, pairs ...string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s does not contain %q", from, pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	write(t, to, []byte(text))
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"model-3.5": "model-3.5", "Modell für Ä": "Modell für Ä", "a\xffb": `a\xffb`, "a\uFFFDb": "a\uFFFDb", "\u2066x": `\u2066x`, "\U000e0001": `\U000e0001`, "\t": `\u0009`,
	} {
		if got := show(in); got != want {
			t.Errorf("%q is shown as %q, expected %q", in, got, want)
		}
	}
	t.Chdir(in("mixed"))
	for dir, want := range map[string]string{"x/y/": "y", "x": "x", ".": "mixed", "..": filepath.Base(fixture)} {
		if got := nameOf(dir); got != want {
			t.Errorf("%q is called %q, expected %q", dir, got, want)
		}
	}
	for in, want := range map[string]string{
		"a/b-1.5": "a/b-1.5", "-rf": "./-rf", "my model": "'my model'", "it's": `'it'\''s'`, "$(id)": "'$(id)'", "a\nb'": `$'a\x0ab\''`, "": "''",
	} {
		if got := shellPath(in); got != want {
			t.Errorf("%q is %s for a shell, expected %s", in, got, want)
		}
	}
}
