package lmeval

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// testdata is output of lm_eval; scripts/make_lmeval_fixtures.py made it.

func mustRead(t testing.TB, name string) *Results {
	t.Helper()
	r, err := Read(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A directory of lm_eval's output gives every task, score and file of samples.
func TestRead(t *testing.T) {
	r := mustRead(t, "reference")
	var names []string
	for _, task := range r.Tasks {
		names = append(names, task.Name)
		if (task.Samples == "") != (task.Subtasks != nil) {
			t.Errorf("%s: samples %q, subtasks %v", task.Name, task.Samples, task.Subtasks)
		}
	}
	if got := strings.Join(names, " "); got != "afmq_arithmetic afmq_differences afmq_prose afmq_sums afmq_written" {
		t.Errorf("tasks %s", got)
	}
	if r.Version != "0.4.13" || len(r.SHA256) != 64 {
		t.Errorf("version %q, digest %q", r.Version, r.SHA256)
	}
	sums := r.Task("afmq_sums")
	m := sums.metric(Metric{Name: "acc", Filter: "none"})
	if m == nil || sums.Items != 24 || math.Abs(m.Value-22.0/24) > 1e-12 || m.StdErr == nil || math.Abs(*m.StdErr-0.0576303) > 1e-6 || m.HigherIsBetter == nil || !*m.HigherIsBetter {
		t.Errorf("%+v: %+v", sums, m)
	}
	prose := r.Task("afmq_prose").metric(Metric{Name: "bits_per_byte", Filter: "none"})
	if prose == nil || prose.StdErr != nil || *prose.HigherIsBetter {
		t.Errorf("bits per byte: %+v", prose)
	}
	// The file itself, and the file of --output_path q4.json.
	if one := mustRead(t, strings.TrimPrefix(r.File, "testdata/")); one.SHA256 != r.SHA256 {
		t.Error("the file has other results than its directory")
	}
	if file := mustRead(t, "file"); file.Task("afmq_sums").Samples == "" {
		t.Error("--output_path FILE.json: no samples")
	}
}

// Flips are those that the script counted in Python, on every task, metric and filter; the recovery
// is the quotient of lm_eval's scores.
func TestCompare(t *testing.T) {
	reference, run := mustRead(t, "reference"), mustRead(t, "q4")
	scores, warnings, err := Compare(reference, run)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	var want map[string]struct{ Items, Worse, Better int }
	data, err := os.ReadFile("testdata/summary.json")
	if err == nil {
		err = json.Unmarshal(data, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	checked, total := 0, Flips{}
	for _, s := range scores {
		if w, ok := want[s.Task+"/"+s.Metric+","+s.Filter]; ok {
			checked++
			f := s.Flips
			if f == nil || f.Items != w.Items || f.Worse != w.Worse || f.Better != w.Better || f.Share != float64(w.Worse+w.Better)/float64(w.Items) {
				t.Errorf("%s %s,%s: %+v, want %+v", s.Task, s.Metric, s.Filter, f, w)
			}
			// What was lost and won is the change of the score.
			if change := s.Value - *s.Reference; math.Abs(change-float64(w.Better-w.Worse)/float64(w.Items)) > 1e-9 {
				t.Errorf("%s %s: the score changes by %v, flips are %+v", s.Task, s.Metric, change, w)
			}
			if s.Metric == "acc" {
				total.Worse, total.Better, total.Items = total.Worse+w.Worse, total.Better+w.Better, total.Items+w.Items
			}
		}
		recovery := 100 * s.Value / *s.Reference
		if !*s.HigherIsBetter {
			recovery = 100 * *s.Reference / s.Value
			if s.Flips != nil {
				t.Errorf("%s %s has flips", s.Task, s.Metric)
			}
		}
		if s.Recovery == nil || math.Abs(*s.Recovery-recovery) > 1e-9 {
			t.Errorf("%s %s: recovery %v, want %v", s.Task, s.Metric, s.Recovery, recovery)
		}
		multiple := (s.Metric == "acc" || s.Metric == "acc_norm") && !s.Group
		if multiple != (s.Chance != nil) {
			t.Errorf("%s %s: chance %v", s.Task, s.Metric, s.Chance)
		} else if multiple && math.Abs(*s.Chance-(1.0/3+1.0/4)/2) > 1e-12 { // three and four choices, in turn
			t.Errorf("%s: chance %v", s.Task, *s.Chance)
		}
		if multiple && (s.OverChance == nil || math.Abs(*s.OverChance-100*(s.Value-*s.Chance)/(*s.Reference-*s.Chance)) > 1e-9) {
			t.Errorf("%s: over chance %v", s.Task, s.OverChance)
		}
		if s.Group {
			f := s.Flips
			if f == nil || f.Items != 48 || s.Task != "afmq_arithmetic" {
				t.Errorf("the group has %+v", s)
			}
		}
		if within := map[string]string{"afmq_sums": "afmq_arithmetic", "afmq_differences": "afmq_arithmetic"}[s.Task]; s.Within != within {
			t.Errorf("%s is in %q", s.Task, s.Within)
		}
	}
	if checked != len(want) {
		t.Errorf("%d of %d flips are there", checked, len(want))
	}
	for _, s := range scores {
		if f := s.Flips; s.Group && (f.Worse != total.Worse || f.Better != total.Better || f.Items != total.Items) {
			t.Errorf("the group has %+v, its tasks %+v", f, total)
		}
	}
	// Against itself nothing flips, and everything is recovered.
	same, _, err := Compare(reference, mustRead(t, "reference"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range same {
		if *s.Recovery != 100 || s.Flips != nil && (s.Flips.Share != 0 || s.Flips.PValue != 1) {
			t.Errorf("against itself: %+v", s)
		}
	}
}

// Without samples there are scores and no flips; without a reference there are only scores.
func TestCompareLess(t *testing.T) {
	scores, warnings, err := Compare(mustRead(t, "reference"), mustRead(t, "bare"))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	for _, s := range scores {
		if s.Flips != nil || s.Recovery == nil {
			t.Errorf("%+v", s)
		}
	}
	if scores, _, err = Compare(nil, mustRead(t, "q4")); err != nil {
		t.Fatal(err)
	}
	for _, s := range scores {
		if s.Flips != nil || s.Recovery != nil || s.Reference != nil || s.OverChance != nil {
			t.Errorf("without a reference: %+v", s)
		}
	}
	_, warnings, err = Compare(mustRead(t, "reference"), mustRead(t, "file"))
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "lacks tasks") || !strings.Contains(warnings[0], "afmq_written") {
		t.Errorf("%v, %q", err, warnings)
	}
}

// Runs of other items, examples, or limits are refused by name.
func TestNotComparable(t *testing.T) {
	reference := mustRead(t, "reference")
	for name, want := range map[string][]string{
		"short":   {"short/my-short/results_", "config.limit of task afmq_sums is 8", "it is null"},
		"shots":   {"n-shot.afmq_sums of task afmq_sums is 2", "it is 0"},
		"changed": {"task_hashes of task afmq_sums"},
	} {
		_, _, err := Compare(reference, mustRead(t, name))
		wantFault(t, name, err, want...)
	}
	// Where the results have no hashes, the items themselves tell.
	other := mustRead(t, "changed")
	other.Task("afmq_sums").hash = ""
	_, _, err := Compare(reference, other)
	wantFault(t, "changed without hashes", err, "another item with doc_id 5 of task afmq_sums", "doc_hash")
}

func wantFault(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	if fault.KindOf(err) != fault.Input || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: %v", what, err)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v; expected %q", what, err, p)
		}
	}
}

// run copies a run to a directory where a test may change it, and returns the directory, the file
// of results, and the samples of a task.
func copied(t *testing.T, name, task string) (dir, results, samples string) {
	t.Helper()
	from := filepath.Dir(mustRead(t, name).File)
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "results_*.json"))
	items, _ := filepath.Glob(filepath.Join(dir, "samples_"+task+"_*.jsonl"))
	if len(files) != 1 || len(items) != 1 {
		t.Fatal(files, items)
	}
	return dir, files[0], items[0]
}

func edit(t *testing.T, file string, change func(s string) string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	after := change(string(data))
	if after == string(data) {
		t.Fatalf("%s: nothing was changed", file)
	}
	if err := os.WriteFile(file, []byte(after), 0o666); err != nil {
		t.Fatal(err)
	}
}

// Files that are damaged or put together wrongly are refused; the error names file and key.
func TestRefuses(t *testing.T) {
	replace := func(old, new string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, new, 1) }
	}
	for _, c := range []struct {
		name    string
		results func(string) string
		samples func(string) string
		want    []string
	}{
		{"cut off", func(s string) string { return s[:len(s)/2] }, nil, []string{"results_", "not valid JSON", "ends too early"}},
		{"a list", func(string) string { return "[]" }, nil, []string{"not a JSON object"}},
		{"no results", replace(`"results"`, `"result"`), nil, []string{`the key "results" is missing`}},
		{"other case", replace(`"results"`, `"Results"`), nil, []string{`the key "results" is missing`}},
		{"a score of text", replace(`"acc,none": 0.9583333333333334`, `"acc,none": "high"`), nil, []string{"results.afmq_sums", "acc,none", "not a finite number"}},
		{"NaN", replace(`"acc,none": 0.9583333333333334`, `"acc,none": NaN`), nil, []string{"results.afmq_sums", "acc,none", "not a finite number"}},
		{"twice", replace(`"acc,none": 0.9583333333333334`, `"acc,none": 1, "acc,none": 0.9583333333333334`), nil, []string{`the key "acc,none" twice`}},
		{"a negative error", replace(`"acc_stderr,none": 0.0`, `"acc_stderr,none": -0.0`), nil, []string{"standard error of acc,none"}},
		{"a name with an escape", replace(`"afmq_sums": {`, `"a\u001b[2J": {"acc,none": 1}, "afmq_sums": {`), nil, []string{"a task with the name"}},
		{"no hash", replace(`"task_hashes": {`, `"task_hashes": {"afmq_sums": "x", "other":"y", "`+"zzz"+`": "`), nil, []string{"results_"}},
		{"another score", replace(`"acc,none": 0.9583333333333334`, `"acc,none": 0.5`), nil, []string{"samples_afmq_sums", "gives acc 0.958333", "has 0.5", "different runs"}},
		{"samples cut off", nil, func(s string) string { return s[:len(s)-200] }, []string{"samples_afmq_sums", "line 24", "not valid JSON"}},
		{"a line less", nil, func(s string) string { return s[:strings.LastIndex(strings.TrimSpace(s), "\n")+1] }, []string{"samples_afmq_sums", "other items than the run"}},
		{"a line twice", nil, func(s string) string { return s + s }, []string{"line 25", "second of doc_id 0"}},
		{"no doc_id", nil, replace(`"doc_id": 0`, `"doc_id": "0"`), []string{"line 1", "doc_id"}},
		{"no hash of an item", nil, replace(`"doc_hash": "`, `"doc_hash": "z`), []string{"line 1", "doc_hash"}},
		{"other answers", nil, func(s string) string { return strings.Replace(s, `"acc": 1.0`, `"acc": 0.0`, 3) }, []string{"gives acc 0.833333", "different runs"}},
	} {
		dir, results, samples := copied(t, "q4", "afmq_sums")
		if c.results != nil {
			edit(t, results, c.results)
		}
		if c.samples != nil {
			edit(t, samples, c.samples)
		}
		r, err := Read(dir)
		if err == nil {
			_, _, err = Compare(mustRead(t, "reference"), r)
		}
		wantFault(t, c.name, err, c.want...)
	}
}

// The paths that name no single run.
func TestFind(t *testing.T) {
	_, err := Read(t.TempDir())
	wantFault(t, "no runs", err, "has no results of lm_eval")
	dir, results, _ := copied(t, "q4", "afmq_sums")
	data, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "results_2026-01-01T00-00-00.000001.json"), data, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Read(dir)
	wantFault(t, "two runs", err, "has the results of 2 runs")
	_, err = Read(filepath.Join(dir, "nothing.json"))
	wantFault(t, "no file", err, "nothing.json")
	// A file that was renamed has the samples of its tasks beside it, if there is one of each.
	renamed := filepath.Join(dir, "renamed.json")
	if err := os.Rename(results, renamed); err != nil {
		t.Fatal(err)
	}
	r, err := Read(renamed)
	if err != nil || r.Task("afmq_sums").Samples == "" {
		t.Fatalf("%v: %+v", err, r)
	}
	more := strings.Replace(r.Task("afmq_sums").Samples, "_2026-", "_2025-", 1)
	if err := os.WriteFile(more, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Read(renamed)
	wantFault(t, "two files of samples", err, "2 files of samples of task afmq_sums")
}

// A name of a task leads to no other directory.
func TestSamplesStayInside(t *testing.T) {
	for _, name := range []string{"../x", "a/b", `a\b`, ".."} {
		if file, err := findSamples("testdata/q4/results_2026-01-01T00-00-00.json", name); file != "" || err != nil {
			t.Errorf("%q: %q, %v", name, file, err)
		}
	}
}

// The p-value is that of the binomial distribution: 10 against 2 is 2·(1+12+66)/4096.
func TestSignTest(t *testing.T) {
	for _, c := range []struct {
		a, b int
		want float64
	}{{0, 0, 1}, {1, 0, 1}, {3, 3, 1}, {10, 2, 2 * 79.0 / 4096}, {0, 5, 2.0 / 32}, {5, 0, 2.0 / 32}} {
		if got := signTest(c.a, c.b); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%d against %d: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// A reference at the level of guessing is said to be so, and its recovery over chance is not given.
func TestAtChance(t *testing.T) {
	chance, se := 0.25, 0.05
	s := Score{Value: 0.24, Chance: &chance, Items: 75}
	s.overChance(&Metric{Value: 0.3, StdErr: &se})
	if !s.AtChance || s.OverChance != nil {
		t.Errorf("%+v", s)
	}
	s = Score{Value: 0.35, Chance: &chance, Items: 75}
	s.overChance(&Metric{Value: 0.45, StdErr: &se})
	if s.AtChance || s.OverChance == nil || math.Abs(*s.OverChance-50) > 1e-9 {
		t.Errorf("%+v", s)
	}
}

// No file of results makes the reader panic, and what it accepts is finite and has printable names.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"reference", "file"} {
		data, err := os.ReadFile(mustRead(f, name).File)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"results":{"a":{"acc,none":NaN,"b,c":-Infinity}},"n-shot":{"a":1e400}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parse("results.json", data)
		if err != nil {
			if fault.KindOf(err) != fault.Input || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Fatalf("%q", err)
			}
			return
		}
		for _, task := range r.Tasks {
			if !printable(task.Name) || task.Items < 0 {
				t.Fatalf("%+v", task)
			}
			for _, m := range task.Metrics {
				if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) || !printable(m.Name) || !printable(m.Filter) {
					t.Fatalf("%+v", m)
				}
			}
		}
		if _, _, err := Compare(r, r); err != nil {
			t.Fatal(err)
		}
	})
}

// No line of samples makes the reader panic.
func FuzzSample(f *testing.F) {
	data, err := os.ReadFile(mustRead(f, "q4").Task("afmq_written").Samples)
	if err != nil {
		f.Fatal(err)
	}
	for i, line := range strings.SplitAfter(string(data), "\n") {
		if i < 3 {
			f.Add([]byte(line))
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		s := &samples{filters: map[string]map[int64]*sample{}}
		if item, err := s.add(line, true); err == nil && len(item.hashes[0]) != 64 {
			t.Fatalf("%+v", item)
		}
	})
}
