package report

import (
	"strings"
	"testing"

	"afmq/pkg/eval"
)

// An evaluation belongs to the model whose digest it has, whatever path it names.
func TestEvaluationsBindByContent(t *testing.T) {
	dir := t.TempDir()
	moved := writeEval(t, dir, "moved.json", in("mixed"), 3.55, 0.05, func(e map[string]any) { e["model"] = "/gone/elsewhere" })
	// The path of this artifact, with the digest of another.
	replaced := writeEval(t, dir, "replaced.json", in("four"), 3.52, 0.02, func(e map[string]any) { e["model"] = in("mixed") })
	r, _ := mustMake(t, Options{Artifact: in("mixed"), Evals: []string{replaced, moved}})
	rows := section[*Evaluation](t, r, "evaluation").Groups[0].Rows
	if len(rows) != 2 || rows[0].This || !rows[1].This {
		t.Fatalf("the rows are %+v", rows)
	}
	if rows[1].Name != "mixed" || !strings.HasPrefix(rows[0].Name, "mixed (") {
		t.Errorf("the rows are called %q and %q", rows[0].Name, rows[1].Name)
	}
	if kl := section[*Summary](t, r, "summary").Evaluation.KL.Mean; kl != 0.05 {
		t.Errorf("the summary quotes a divergence of %v", kl)
	}
	// The same text under another path is the same setting; another text under the same path is not.
	renamed := writeEval(t, dir, "renamed.json", in("two"), 3.9, 0.4, func(e map[string]any) { e["data"] = "renamed.txt" })
	changed := writeEval(t, dir, "changed.json", in("two"), 3.9, 0.4, identify(func(id map[string]any) { id["data"] = strings.Repeat("0f", 32) }))
	r, _ = mustMake(t, Options{Artifact: in("mixed"), Evals: []string{moved, renamed, changed}})
	groups := section[*Evaluation](t, r, "evaluation").Groups
	if len(groups) != 2 || len(groups[0].Rows) != 2 || groups[0].Setting.Data != "held-out.txt" {
		t.Errorf("the groups are %+v", groups)
	}
}

// Evaluations on text that a model was fitted to are shown and marked; no summary and no line of
// the plot uses them.
func TestFittedTextWinsNothing(t *testing.T) {
	dir := t.TempDir()
	fitted := writeEval(t, dir, "fitted.json", in("mixed"), 3.51, 0.001, func(e map[string]any) {
		e["calibration_overlap"] = eval.Overlap{SameFile: true, Of: 40, Passages: 40}
		e["identity"].(map[string]any)["data"] = strings.Repeat("0f", 32)
	})
	clean := writeEval(t, dir, "clean.json", in("mixed"), 3.55, 0.05, func(e map[string]any) {
		var adapters []any
		for i, name := range []string{"trained-on-it", "held-out"} {
			a := figures(3.52, 0.01*float64(1+i), 1000)
			id := adapterIdentity()
			id.SHA256 = strings.Repeat("ab"[i:i+1], 64)
			if i == 0 {
				id.Overlap = eval.Overlap{Passages: 3, Of: 9}
			}
			a["name"], a["path"], a["identity"] = name, name, id
			adapters = append(adapters, a)
		}
		e["adapters"] = adapters
	})
	r, page := mustMake(t, Options{Artifact: in("mixed"), Evals: []string{fitted, clean}})
	s := section[*Summary](t, r, "summary")
	if s.Evaluation.KL.Mean != 0.05 || len(s.Unused) != 1 || !strings.Contains(s.Unused[0], "fitted.json: the text is a calibration file of mixed") {
		t.Errorf("the summary quotes %v and leaves out %q", s.Evaluation.KL.Mean, s.Unused)
	}
	if best := s.bestAdapter(); best == nil || best.Adapter != "held-out" || strings.Contains(s.Headline, "trained-on-it") {
		t.Errorf("the best adapter is %+v: %s", best, s.Headline)
	}
	if n := strings.Count(page, `<span class="mark" title=`); n != 4 { // two rows, in two sections
		t.Errorf("%d rows are marked", n)
	}
	if !strings.Contains(page, "the text shares 3 of 9 passages with the training text of adapter trained-on-it") {
		t.Error("the page does not say what the text shares")
	}
	r, _ = mustMake(t, Options{Artifact: in("mixed"), Evals: []string{fitted}})
	if s := section[*Summary](t, r, "summary"); s.Evaluation != nil || strings.Contains(s.Headline, "perplexity") {
		t.Errorf("fitted text makes the headline: %s", s.Headline)
	}
}

// An adapter that names no artifact was evaluated on this one because the user said so; the page
// tells it.
func TestUnboundAdapter(t *testing.T) {
	dir := t.TempDir()
	for _, bound := range []bool{true, false} {
		file := writeEval(t, dir, "eval.json", in("mixed"), 3.55, 0.05, func(e map[string]any) {
			a, id := figures(3.52, 0.01, 1000), adapterIdentity()
			id.Bound = bound
			a["name"], a["path"], a["identity"] = "found", "found", id
			e["adapters"] = []any{a}
		})
		_, page := mustMake(t, Options{Artifact: in("mixed"), Evals: []string{file}})
		if n := strings.Count(page, "mixed + found: the adapter does not name the artifact"); bound && n != 0 || !bound && n != 2 {
			t.Errorf("bound %v: the page says %d times that it is not", bound, n)
		}
	}
}

// A point is at the size of what has to be stored, and a line joins only artifacts of one recipe.
func TestCurveSizes(t *testing.T) {
	o := everything(t)
	r, _ := mustMake(t, o)
	g := section[*Curve](t, r, "curve").Groups[0]
	sizes := map[string]int64{}
	for _, p := range g.Points {
		sizes[p.label(true)] = p.Bytes
	}
	if base, with := sizes["mixed"], sizes["mixed + rank-8"]; base == 0 || with != base+9000 {
		t.Errorf("the sizes are %v", sizes)
	}
	families := map[string][]string{}
	for _, p := range g.Points {
		families[p.family] = append(families[p.family], p.Name)
	}
	if len(families) != 3 { // mixed, four, and two without row scales
		t.Errorf("the families are %v", families)
	}
	if plot := string(g.Plot); strings.Count(plot, `class="line" d="M`) < 1 || !strings.Contains(plot, ">&#43; rank-8</text>") || !strings.Contains(plot, ">four</text>") {
		t.Errorf("the points have no names:\n%s", plot)
	}
}

// section returns the data of a section.
func section[T any](t *testing.T, r *Report, id string) T {
	t.Helper()
	for _, s := range r.Sections {
		if s.ID == id {
			d, ok := s.Data.(T)
			if !ok {
				t.Fatalf("section %s has data %T", id, s.Data)
			}
			return d
		}
	}
	t.Fatalf("there is no section %s", id)
	panic("unreachable")
}
