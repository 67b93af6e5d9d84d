package report

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"afmq/cmd/afmq/internal/device"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

var update = flag.Bool("update", false, "write the golden files")

// outline returns the structure of a page: sections, headings, plots, tables with their
// columns and rows.
func outline(t *testing.T, page string) string {
	var b strings.Builder
	head, rows := false, 0
	for _, e := range parse(t, page) {
		switch e.name {
		case "section":
			fmt.Fprintf(&b, "section %s\n", e.attrs["id"])
		case "h1", "h2", "h3":
			fmt.Fprintf(&b, "%s %s\n", e.name, e.text)
		case "svg":
			fmt.Fprintf(&b, "svg %s\n", e.attrs["class"])
		case "table":
			fmt.Fprintf(&b, "table %s\n", e.attrs["class"])
			rows = 0
		case "thead":
			head = true
		case "tbody":
			head = false
		case "th":
			if head {
				fmt.Fprintf(&b, "  column %s\n", e.text)
			} else if rows++; rows <= 30 {
				fmt.Fprintf(&b, "  row %s\n", e.text)
			}
		case "code":
			if n := strings.Count(e.text, "\nafmq "); n > 0 { // paths decide where their lines are broken
				e.text = fmt.Sprintf("%d commands", n+1)
			}
			fallthrough
		case "dt", "ul":
			fmt.Fprintf(&b, "%s %s\n", e.name, e.text)
		}
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); go test -update writes it anew:\n%s", path, diff)
	}
}

// TestOutline compares the structure of two reports, with all sections and with as few as
// possible, with files that were reviewed together with the pages in a browser
// (scripts/test-report).
func TestOutline(t *testing.T) {
	_, full := mustMake(t, everything(t))
	golden(t, "full.txt", strings.ReplaceAll(outline(t, full), fixture, "FIXTURE"))
	_, bare := mustMake(t, Options{Artifact: in("mixed")})
	golden(t, "bare.txt", strings.ReplaceAll(outline(t, bare), fixture, "FIXTURE"))
}

// TestFiguresAreThoseOfTheFiles compares the figures of a report with its input files, read
// independently.
func TestFiguresAreThoseOfTheFiles(t *testing.T) {
	r, _ := mustMake(t, everything(t))
	data := map[string]any{}
	for _, s := range r.Sections {
		if s.Data == nil || s.Command != "" {
			t.Errorf("section %s has no data", s.ID)
		}
		data[s.ID] = s.Data
	}
	m, err := artifact.ReadManifest(in("mixed"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(in("mixed", "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := artifact.Describe(in("model"))
	if err != nil {
		t.Fatal(err)
	}
	s := data["summary"].(*Summary)
	if s.Bytes != info.Size() || s.BPW.Projections != m.BPW.Projections || s.Parameters != source.Parameters {
		t.Errorf("the summary is %+v", s)
	}
	if s.SourceBits != 16 || s.Source != 2*source.Parameters { // the demo model is F16
		t.Errorf("the source has %d bytes, %v bits", s.Source, s.SourceBits)
	}
	if want := float64(2*source.Parameters) / float64(info.Size()); s.Ratio != want {
		t.Errorf("compression is %v, expected %v", s.Ratio, want)
	}
	if s.Evaluation.KL.Mean != 0.05 || s.Setting.Ctx != 128 {
		t.Errorf("the evaluation is %+v", s.Evaluation)
	}
	total, share := int64(0), 0.0
	for _, p := range data["size"].(*Size).Parts {
		total += p.Bytes
		share += p.Share
	}
	if total != info.Size() || share < 0.999999 || share > 1.000001 {
		t.Errorf("the parts have %d bytes and a share of %v", total, share)
	}
	for _, l := range data["bits"].(*Bits).Layers {
		if len(l.Modules) != 7 {
			t.Errorf("layer %d has %d modules", l.Layer, len(l.Modules))
		}
		for _, mod := range l.Modules {
			i := slices.IndexFunc(m.Plan.Modules, func(p artifact.ModuleRecord) bool { return p.Name == mod.Name })
			if i < 0 || m.Plan.Modules[i].Bits != mod.Bits || !strings.Contains(mod.Name, fmt.Sprintf("layers.%d.", l.Layer)) {
				t.Errorf("layer %d: %+v", l.Layer, mod)
			}
		}
	}
	curve := data["curve"].(*Curve)
	if len(curve.Groups) != 2 || len(curve.Groups[0].Points) != 4 || len(curve.Groups[1].Points) != 1 {
		t.Fatalf("the curve has groups %+v", curve.Groups)
	}
	var this int
	for i, p := range curve.Groups[0].Points {
		if p.This {
			this++
		}
		if i > 0 && p.BPW < curve.Groups[0].Points[i-1].BPW {
			t.Errorf("the points are not in order: %+v", curve.Groups[0].Points)
		}
	}
	if this != 2 { // with and without the adapter
		t.Errorf("%d points are of this artifact", this)
	}
	evaluations := data["training"].(*Training).Runs[0].Evaluations
	if len(evaluations) != 2 || evaluations[1].Tokens != 256 || *evaluations[1].Values[0] != 0.03 || *evaluations[1].Values[1] != 0.015 {
		t.Errorf("the evaluations on held-out text are %+v", evaluations)
	}
	guide := data["devices"].(*device.Guide)
	if len(guide.Devices) != 2 || len(guide.Devices[0].Rows) != 5 || len(guide.Notes) != 0 || guide.Use != (device.Use{Ctx: 512, Prompt: 128}) {
		t.Fatalf("the guide is %+v", guide)
	}
	row := guide.Devices[0].Rows[2]
	if row.Name != "this artifact" || row.WeightBytes != m.Ledger.Total-m.Ledger.Container || row.BPW != m.BPW.Projections {
		t.Errorf("the artifact's row is %+v", row)
	}
	if cost := data["plan"].(*Choice).Cost; math.Abs(*row.Cost/cost-1) > 1e-12 { // from the scores, and from the plan
		t.Errorf("the artifact costs %v, its plan %v", *row.Cost, cost)
	}
	for _, w := range []struct{ id, want string }{{"recovery", `"rank":4`}, {"sensitivity", `"method":"weight"`}, {"plan", `"optimal":true`}} {
		text, err := json.Marshal(data[w.id])
		if err != nil || !strings.Contains(string(text), w.want) {
			t.Errorf("section %s is %.300s, %v", w.id, text, err)
		}
	}
}

// TestSameBytes compares the page made with one thread with that of three.
func TestSameBytes(t *testing.T) {
	o := everything(t)
	_, want := mustMake(t, o)
	one := compute.NewPool(1)
	defer one.Close()
	r, err := Make(bg, one, o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.HTML()
	if err != nil || string(got) != want {
		t.Errorf("the pages differ, %v", err)
	}
}

func TestMissingSectionsNameTheirCommand(t *testing.T) {
	r, page := mustMake(t, Options{Artifact: in("mixed")})
	missing := map[string]string{
		"sensitivity": "afmq sensitivity ", "plan": "afmq plan ", "curve": "afmq eval-perplexity " + in("mixed"), "recovery": "afmq recover " + in("mixed"),
		"devices": "afmq devices", "training": "afmq recover " + in("mixed"), "evaluation": "afmq eval-perplexity " + in("mixed"),
		"compare": "afmq compare " + in("mixed"),
	}
	for _, s := range r.Sections {
		want, ok := missing[s.ID]
		if s.ID == "samples" { // needs no other command
			if s.Command != "" || s.Option != "--reference MODEL" {
				t.Errorf("section %+v", s)
			}
			continue
		}
		if ok != (s.Command != "") || ok != (s.Data == nil) || !strings.HasPrefix(s.Command, want) || ok != strings.HasPrefix(s.Option, "--") {
			t.Errorf("section %+v", s)
		}
	}
	n := 0
	for _, e := range parse(t, page) {
		if e.name == "code" && strings.HasPrefix(e.text, "afmq ") && !strings.Contains(e.text, "\n") && e.text != "afmq report" && e.text != "afmq verify" && e.text != "afmq gate --json" {
			n++
		}
	}
	if n != len(missing) {
		t.Errorf("the page shows %d commands, expected %d", n, len(missing))
	}
}

func TestLossIsTheMeanOfSteps(t *testing.T) {
	_, lines := recoveryFiles("x")
	metrics := mustMetrics(t, lines)
	l := lossCurve(metrics, 8, 3, 3)
	if fmt.Sprintf("%.4f %v", l.Loss, l.Tokens) != "[0.0360 0.0320] [128 256]" { // of steps 1 to 3, and 4
		t.Errorf("the loss is %.4f at %v", l.Loss, l.Tokens)
	}
	// The losses are 0.038, 0.036, 0.034, 0.032; at both ends the window has two steps.
	l = lossCurve(metrics, 8, 1, 3)
	if fmt.Sprintf("%.4f %.4f", l.Loss, l.Smoothed) != "[0.0380 0.0360 0.0340 0.0320] [0.0370 0.0360 0.0340 0.0330]" {
		t.Errorf("the loss is %.4f, smoothed %.4f", l.Loss, l.Smoothed)
	}
}

// A long run has few points, a window of a twentieth of its steps, and a smoothed loss that noise
// of alternating sign leaves alone.
func TestLongRun(t *testing.T) {
	var lines strings.Builder
	for step := 1; step <= 1000; step++ {
		noise := float64(1 - step%2*2)
		fmt.Fprintf(&lines, `{"step":%d,"tokens":%d,"rank":4,"loss":%g}`+"\n", step, 10*step, 2-float64(step)/1000+noise/2)
	}
	run := trainingRun(mustMetrics(t, lines.String()))
	if run.Mean != 3 || run.Window != 51 || !run.Smooth() {
		t.Fatalf("points of %d steps, a window of %d", run.Mean, run.Window)
	}
	l := run.Loss[0]
	if len(l.Loss) != 334 || len(l.Smoothed) != 334 || len(l.Tokens) != 334 {
		t.Fatalf("%d points, %d smoothed", len(l.Loss), len(l.Smoothed))
	}
	for i := 10; i < 324; i++ {
		trend := 2 - l.Tokens[i]/10000
		if math.Abs(l.Smoothed[i]-trend) > 0.011 {
			t.Errorf("after %v tokens the smoothed loss is %v, the trend %v", l.Tokens[i], l.Smoothed[i], trend)
		}
	}
	plot, err := run.draw()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(plot), `<g class="series c0 faint">`); n != 2 { // wide and narrow
		t.Errorf("%d faint lines", n)
	}
}

// TestArtifactOfNoPlan estimates an artifact with an unquantized matrix and with bits that have
// no scores, from scores with other group sizes.
func TestArtifactOfNoPlan(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "kept")
	_, err := quantize.Run(bg, quantize.Options{
		Pool:  pool,
		Model: in("model"), Out: out, Bits: 5, ToolVersion: "test", Overrides: []sensitivity.Override{{Pattern: `layers\.0\.mlp\.down_proj`, Bits: 16}}, NoRowScale: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Artifact: out, Scores: in("scores.json"), Devices: carried(t, "macbook-air-m2")}
	r, page := mustMake(t, o)
	harmless(t, page)
	for _, s := range r.Sections {
		if s.ID != "devices" {
			continue
		}
		g := s.Data.(*device.Guide)
		if g.Notes[len(g.Notes)-1] != "The scores were made with other group sizes or row scales than the artifact; sizes are those of the artifact's storage." {
			t.Errorf("the notes are %q", g.Notes)
		}
		for _, row := range g.Devices[0].Rows {
			if (row.Cost == nil) != (row.Name == "this artifact") {
				t.Errorf("row %+v", row)
			}
			// The matrix is unquantized in every variant: 128·352 weights of 16 bits.
			if row.WeightBytes < 128*352*2+270336 {
				t.Errorf("%s takes %d bytes", row.Name, row.WeightBytes)
			}
		}
	}
	o.Use.Ctx = 4096
	if _, err := Make(bg, pool, o); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "--ctx 4096 exceeds the 1024 positions") {
		t.Errorf("a context that is too long: %v", err)
	}
}

func TestDecimals(t *testing.T) {
	for v, want := range map[float64]int{0: 2, 2.475: 3, 0.9: 4, 0.04: 5, 123: 2, 1e-9: 7} {
		if got := decimals(v); got != want {
			t.Errorf("%v gets %d decimals, expected %d", v, got, want)
		}
	}
	if unit, n, label := thousandths(0.0698); unit != 1e-3 || n != 2 || label != "× 10⁻³" {
		t.Errorf("a table up to 0.0698 is written in %v with %d decimals, %s", unit, n, label)
	}
	if unit, n, label := thousandths(412.5); unit != 1 || n != 1 || label != "" {
		t.Errorf("a table up to 412.5 is written in %v with %d decimals, %s", unit, n, label)
	}
}

// Evaluations whose references were computed in different arithmetics are in separate groups.
func TestReferenceCompute(t *testing.T) {
	opts := everything(t)
	first, err := os.ReadFile(opts.Evals[0])
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.json")
	text := strings.Replace(string(first), "{", `{"reference_compute":"split",`, 1)
	if err := os.WriteFile(other, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	opts.Evals = []string{opts.Evals[0], other}
	r, _ := mustMake(t, opts)
	for _, s := range r.Sections {
		if s.ID != "evaluation" {
			continue
		}
		groups := s.Data.(*Evaluation).Groups
		if len(groups) != 2 || groups[1].Setting.Compute != "f32, the reference in split" {
			t.Errorf("groups %+v", groups)
		}
	}
}
