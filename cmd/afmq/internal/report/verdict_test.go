package report

import (
	"os"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/gate"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

func TestVerdict(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		limit  float64
		change func(*gateFile)
		want   string
	}{
		"passed":       {0.05, nil, "Gate passed on held-out.txt"},
		"failed":       {0.005, nil, "Gate FAILED on held-out.txt"},
		"inconclusive": {0.02, nil, "Gate INCONCLUSIVE on held-out.txt"},
		"fitted":       {0.05, func(g *gateFile) { g.Overlap = &eval.Overlap{SameFile: true} }, "which does not count: the text is a calibration file of mixed"},
		"trained":      {0.05, func(g *gateFile) { g.Training = &eval.Overlap{Passages: 2, Of: 7} }, "which does not count: the text shares 2 of 7 passages with the training text of the adapter"},
		"adapter":      {0.05, withAdapter, "Gate with adapter recovered/rank-8 passed"},
	} {
		o := Options{Artifact: in("mixed"), Plan: in("plan.json"), Gates: []string{writeGate(t, dir, name, in("mixed"), c.limit, c.change)}}
		r, page := mustMake(t, o)
		line := section[*Summary](t, r, "summary").Verdict.Line()
		if !strings.HasPrefix(line, "Budget met: 3.2") || !strings.Contains(line, c.want) || !strings.Contains(page, "<strong>"+line) {
			t.Errorf("%s: %s", name, line)
		}
	}
	// The limits of an evaluation are judged too, and without any gate the line says so.
	evaluated := writeEval(t, dir, "limited.json", in("mixed"), 3.55, 0.05, func(e map[string]any) {
		e["gate"] = map[string]any{"outcome": "worse", "checks": []any{map[string]any{"name": "kl", "limit": 0.01, "value": 0.06, "outcome": "worse", "interval": interval(0.05, 0.01), "message": "too much"}}}
	})
	r, _ := mustMake(t, Options{Artifact: in("mixed"), Evals: []string{evaluated}})
	if line := section[*Summary](t, r, "summary").Verdict.Line(); line != "Limits of the evaluation FAILED on held-out.txt." {
		t.Errorf("the limits of an evaluation: %s", line)
	}
	r, _ = mustMake(t, Options{Artifact: in("mixed")})
	if line := section[*Summary](t, r, "summary").Verdict.Line(); line != "No verdict of a gate was given." {
		t.Errorf("without a gate: %s", line)
	}
}

// withAdapter makes a verdict one on the artifact with an adapter.
func withAdapter(g *gateFile) {
	sha256 := strings.Repeat("ad", 32)
	g.Adapter, g.Model.Adapter = "recovered/rank-8", &sha256
}

// A gate that recorded a baseline and had nothing to judge by passed nothing.
func TestGateWithoutChecks(t *testing.T) {
	file := writeGate(t, t.TempDir(), "first.json", in("mixed"), 0.05, func(g *gateFile) { g.Updated, g.Checks = true, []gate.Check{} })
	r, page := mustMake(t, Options{Artifact: in("mixed"), Gates: []string{file}})
	if line := section[*Summary](t, r, "summary").Verdict.Line(); line != "No verdict of a gate was given." {
		t.Error(line)
	}
	if strings.Contains(page, "passed") || !strings.Contains(page, "first.json is no verdict") {
		t.Error("the page does not say that the gate judged nothing")
	}
}

// The manifest and the scores decide whether the text of a gate is one that the artifact was
// fitted to, also where the verdict does not say so.
func TestGateOnFittedText(t *testing.T) {
	g := writeGate(t, t.TempDir(), "gate.json", in("mixed"), 0.05, nil)
	file, err := os.ReadFile(g)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parseGate(g, file)
	if err != nil {
		t.Fatal(err)
	}
	used := &artifact.CalibrationRecord{Files: []string{dataDigest}}
	for want, a := range map[string]*opened{
		"the text is a calibration file of x":        {dir: "x", manifest: &artifact.Manifest{Calibration: used}},
		"the bits were chosen by scores on the text": {dir: "x", manifest: &artifact.Manifest{}, scored: used},
		"": {dir: "x", manifest: &artifact.Manifest{}},
	} {
		s := &sources{art: a, gates: []*gateFile{parsed}}
		if got := s.verdict().Gates[0].Overlap; got != want {
			t.Errorf("the overlap is %q, expected %q", got, want)
		}
	}
}

// Without a plan, the budget is the target that the manifest records.
func TestBudgetOfTheManifest(t *testing.T) {
	art := t.TempDir() + "/asked"
	_, err := quantize.Run(bg, quantize.Options{
		Model: in("model"), Out: art, Method: sensitivity.Weight, Pool: pool,
		Request: &sensitivity.PlanOptions{Target: sensitivity.Target{MaxBytes: 700_000}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := mustMake(t, Options{Artifact: art})
	if line := section[*Summary](t, r, "summary").Verdict.Line(); !strings.HasPrefix(line, "Budget met: 6") || !strings.Contains(line, " of at most 683.59 KiB. No verdict") {
		t.Error(line) // 700,000 bytes
	}
	c := section[*Commands](t, r, "commands")
	if want := " --max-bytes 700000 --bits 2,3,4 --method weight"; !strings.HasSuffix(c.Steps[0].Command, want) {
		t.Errorf("%s, expected%s", c.Steps[0].Command, want)
	}
}

func TestExceededBudget(t *testing.T) {
	for want, b := range map[string]Budget{
		"Budget EXCEEDED: 3.6000 of at most 3.5 bits per weight in projections": {"bpw", 3.6, 3.5, false},
		"Budget met: 1.00 KiB of at most 2.00 KiB":                              {"bytes", 1024, 2048, true},
	} {
		if got := b.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWrongGates(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/text", []byte("hello"))
	good := writeGate(t, dir, "good", in("mixed"), 0.05, nil)
	other := strings.Repeat("0a", 32)
	for want, files := range map[string][]string{
		"text: is not a gate's verdict":          {dir + "/text"},
		"judges another model than":              {writeGate(t, dir, "1", in("four"), 0.05, nil)},
		"from another reference":                 {writeGate(t, dir, "2", in("mixed"), 0.05, func(g *gateFile) { g.Setting.Reference = &other })},
		`its outcome is "no_worse"`:              {writeGate(t, dir, "3", in("mixed"), 0.005, func(g *gateFile) { g.Outcome = gate.NoWorse })},
		`the check "kl" has the outcome`:         {writeGate(t, dir, "4", in("mixed"), 0.005, func(g *gateFile) { g.Checks[0].Outcome = gate.NoWorse })},
		"its figures are missing":                {writeGate(t, dir, "5", in("mixed"), 0.05, func(g *gateFile) { g.Result = nil })},
		"duplicates " + good:                     {good, good},
		"digest of the adapter is missing":       {writeGate(t, dir, "7", in("mixed"), 0.05, func(g *gateFile) { withAdapter(g); g.Adapter = "" })},
		`schema is "afmq.gate/v9"; this version`: {writeGate(t, dir, "6", in("mixed"), 0.05, func(g *gateFile) { g.Schema = "afmq.gate/v9" })},
	} {
		_, err := Make(bg, pool, Options{Artifact: in("mixed"), Gates: files})
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, expected %q", err, want)
		}
	}
}

// A check on an adapter that the evaluation does not have would be left out of every verdict.
func TestCheckOnAnotherAdapter(t *testing.T) {
	file := writeEval(t, t.TempDir(), "limited.json", in("mixed"), 3.55, 0.05, func(e map[string]any) {
		e["gate"] = map[string]any{"outcome": "worse", "checks": []any{map[string]any{"name": "kl", "adapter": "gone", "limit": 0.01, "value": 0.06, "outcome": "worse", "interval": interval(0.05, 0.01), "message": "too much"}}}
	})
	_, err := Make(bg, pool, Options{Artifact: in("mixed"), Evals: []string{file}})
	if err == nil || !strings.Contains(err.Error(), `on adapter "gone", which was not evaluated`) {
		t.Error(err)
	}
}

// The source has one size on the page, that of its tensors: a manifest does not record that of the
// headers of its files.
func TestOneSizeOfTheSource(t *testing.T) {
	dir := t.TempDir()
	r, page := mustMake(t, Options{Artifact: in("mixed"), Evals: []string{
		writeEval(t, dir, "mixed.json", in("mixed"), 3.55, 0.05, nil), writeEval(t, dir, "source.json", in("model"), 3.5, -1, nil),
	}})
	s := section[*Summary](t, r, "summary")
	if s.Models[0].Bytes != s.Source || strings.Contains(page, "2.04 MiB") || !strings.Contains(page, "<td>2.03 MiB</td>") {
		t.Errorf("the source has %d bytes and %d", s.Source, s.Models[0].Bytes)
	}
}
