package report

import (
	"encoding/json"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/internal/units"
	"afmq/pkg/compare"
	"afmq/pkg/fault"
)

// The section has every row, its size, its figures, and what the comparison found.
func TestComparison(t *testing.T) {
	r, page := mustMake(t, everything(t))
	c := section[*Comparison](t, r, "compare")
	if c.This != "mixed" || len(c.Models) != 5 || len(c.Pairs) != 6 {
		t.Fatalf("%+v", c)
	}
	at := strings.Index(page, `<section id="compare"`)
	part := html.UnescapeString(page[at : at+strings.Index(page[at:], "</section>")])
	for _, row := range c.Models {
		for _, want := range []string{">" + row.Name, units.Size(row.Bytes), fmt.Sprintf("%.3f", row.Perplexity), c.StandingText(row)} {
			if !strings.Contains(part, want) {
				t.Errorf("%s: the section has no %q", row.Name, want)
			}
		}
	}
	for _, s := range c.Models[1].Tasks.Scores {
		if s.Within == "" && !strings.Contains(part, fmt.Sprintf("<td>%.2f %%</td>", *s.Recovery)) {
			t.Errorf("%s: no recovery of %v", s.Task, *s.Recovery)
		}
		if strings.Contains(part, "<h3>"+s.Task) == (s.Within != "") {
			t.Errorf("%s, in %q: in the section or not", s.Task, s.Within)
		}
	}
	steps := section[*Commands](t, r, "commands").Steps
	command := ""
	for _, s := range steps {
		if strings.HasPrefix(s.Command, "afmq compare ") {
			command = s.Command
		}
	}
	want := fmt.Sprintf("afmq compare %s %s %s --data %s --reference %s --adapter rank-8=%s --tasks model=", in("mixed"), in("four"), in("two"), in("written.txt"), in("model"), in("recovered", "rank-8"))
	if !strings.HasPrefix(command, want) || !strings.HasSuffix(command, " --ctx 64 --compute f32 --json > "+in("compare.json")) {
		t.Errorf("the command is %s", command)
	}
}

// A comparison that was changed, or has nothing to do with the artifact, is refused by name.
func TestWrongComparison(t *testing.T) {
	data, err := os.ReadFile(in("compare.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "c.json")
	for name, c := range map[string]struct {
		change func(r *compare.Result)
		want   string
	}{
		"a perplexity":         {func(r *compare.Result) { r.Models[2].Perplexity = 1 }, "is impossible"},
		"a winner":             {func(r *compare.Result) { r.Front = []string{"two"} }, "do not follow"},
		"another source":       {func(r *compare.Result) { r.Models[2].Identity.Source = strings.Repeat("ef", 32) }, `has "`},
		"another reference":    {func(r *compare.Result) { r.Models[0].Identity.Digest = strings.Repeat("ef", 32) }, "compares with another reference"},
		"without the artifact": {func(r *compare.Result) { r.Models[1].Identity.Digest = strings.Repeat("ef", 32) }, "has no row of"},
		"too many flips":       {func(r *compare.Result) { r.Models[1].Tasks.Scores[1].Flips.Worse = 1000 }, "flips"},
	} {
		f := &compareFile{}
		if err := json.Unmarshal(data, f); err != nil {
			t.Fatal(err)
		}
		c.change(f.Result)
		changed, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, changed)
		_, err = Make(bg, pool, Options{Artifact: in("mixed"), Compare: file})
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "c.json") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"hello": "is not a comparison", `{"schema":"afmq.eval/v1"}`: "its schema is", `{"schema":"afmq.compare/v1"}`: "its figures are missing",
		`{"schema":"afmq.compare/v1","data":"x","models":[]}`: "no models",
	} {
		write(t, file, []byte(text))
		if _, err := Make(bg, pool, Options{Artifact: in("mixed"), Compare: file}); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

// Names in a comparison cannot leave their cell.
func TestHostileComparison(t *testing.T) {
	data, err := os.ReadFile(in("compare.json"))
	if err != nil {
		t.Fatal(err)
	}
	quoted, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), `"four"`, string(quoted))
	text = strings.ReplaceAll(text, `"afmq_written"`, string(quoted))
	file := filepath.Join(t.TempDir(), "c.json")
	write(t, file, []byte(text))
	_, page := mustMake(t, Options{Artifact: in("mixed"), Compare: file})
	harmless(t, page)
}
