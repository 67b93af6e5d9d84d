package report

import (
	"fmt"
	"path/filepath"
	"strings"

	"afmq/internal/infile"
	"afmq/pkg/compare"
	"afmq/pkg/fault"
	"afmq/pkg/lmeval"
)

// compareSchema is the supported version of a comparison.
const compareSchema = "afmq.compare/v1"

const maxCompareBytes = 32 << 20

// Comparison is a comparison of this artifact with others on one text and on tasks.
type Comparison struct {
	File string `json:"file"`
	Data string `json:"data"` // path of the text
	This string `json:"this"` // row of this artifact without an adapter
	*compare.Result
}

// compareFile has the keys of `afmq compare --json` that a report uses. Unknown keys are ignored,
// because a version may gain keys.
type compareFile struct {
	Schema string `json:"schema"`
	Data   string `json:"data"`
	*compare.Result
}

// readComparison reads the comparison. A row of it must be this artifact, the reference the checkpoint
// that it was made from, and the other artifacts of that checkpoint; content decides, not paths.
func (s *sources) readComparison() error {
	file := s.opts.Compare
	if file == "" {
		return nil
	}
	data, err := infile.ReadBounded(file, maxCompareBytes)
	if err != nil {
		return err
	}
	c, err := parseComparison(file, data)
	if err != nil {
		return err
	}
	if c.This, err = s.art.compared(file, c.Result); err != nil {
		return err
	}
	s.comparison = c
	return nil
}

// parseComparison parses and checks a comparison. Errors are of kind fault.Input and name file.
func parseComparison(file string, data []byte) (*Comparison, error) {
	c := &compareFile{}
	err := parseObject(data, compareSchema, c)
	if err == nil && (c.Result == nil || c.Data == "") {
		err = fmt.Errorf("its figures are missing")
	}
	if err == nil {
		err = c.Check()
	}
	if err != nil {
		return nil, fault.Inputf(file, "is not a comparison: %v", err)
	}
	return &Comparison{File: file, Data: c.Data, Result: c.Result}, nil
}

// compared returns the name of the row of this artifact, and refuses rows of another checkpoint.
func (a *opened) compared(file string, r *compare.Result) (this string, err error) {
	source := a.manifest.Source.Digest
	for i := range r.Models {
		row := &r.Models[i]
		id := &row.Identity
		switch {
		case r.Reference != nil && i == 0 && id.Kind == "checkpoint" && id.Digest != source:
			return "", fault.Inputf(file, "compares with another reference than the checkpoint that %s was made from: its digest is %.16s…, not %.16s…", show(a.dir), id.Digest, source)
		case id.Kind != "gguf" && id.Source != source:
			return "", fault.Inputf(file, "has %.80q, which is of another checkpoint than %s: the digest of its source is %.16s…, not %.16s…", row.Name, show(a.dir), id.Source, source)
		case id.Kind == "artifact" && id.Digest == a.manifest.ContentHash && row.Adapter == nil && this == "":
			this = row.Name
		}
	}
	if this == "" {
		return "", fault.Inputf(file, "has no row of %s: none has its content hash %.16s…", show(a.dir), a.manifest.ContentHash).
			WithHint("compare again, with this artifact among the models")
	}
	return this, nil
}

func (s *sources) compare() (any, error) {
	if s.comparison == nil {
		return nil, nil
	}
	c := *s.comparison
	c.File, c.Data = show(c.File), show(c.Data)
	return &c, nil
}

// Setting describes the text and the options.
func (c *Comparison) Setting() Setting {
	return Setting{Data: show(c.Data), DataSHA256: c.DataSHA256, Protocol: string(c.Protocol), Ctx: c.Ctx, Stride: c.Stride, Compute: show(c.Compute)}
}

// IsThis reports whether a row is that of this artifact.
func (c *Comparison) IsThis(row compare.Row) bool { return row.Name == c.This }

// Compared reports whether there is a reference.
func (c *Comparison) Compared() bool { return c.Reference != nil }

// Bits returns the bits per weight of all that is shipped with a row.
func (c *Comparison) Bits(row compare.Row) float64 {
	if row.BPW.WithAdapter != nil {
		return *row.BPW.WithAdapter
	}
	return row.BPW.Model
}

// StandingText says what the comparison found about a row.
func (c *Comparison) StandingText(row compare.Row) string {
	switch {
	case row.Standing == compare.IsReference:
		return "reference"
	case row.Standing == compare.IsDominated:
		return "dominated by " + Names(row.DominatedBy)
	case len(row.NotShownBetterThan) > 0:
		return "not shown better than " + Names(row.NotShownBetterThan)
	}
	return "on the front"
}

// OverlapText says what the text has in common with text that a row was fitted to; empty for nothing.
func (c *Comparison) OverlapText(row compare.Row) string {
	var parts []string
	if row.Overlap != nil {
		parts = append(parts, describeOverlap(row.Overlap, "calibration", show(row.Name)))
	}
	if row.Adapter != nil {
		parts = append(parts, describeOverlap(&row.Adapter.Identity.Overlap, "training", "its adapter"))
	}
	return strings.Trim(strings.Join(parts, "; "), "; ")
}

// Names joins names for display.
func Names(list []string) string {
	shown := make([]string, len(list))
	for i, n := range list {
		shown[i] = show(n)
	}
	return strings.Join(shown, ", ")
}

// Names is [Names] for the template.
func (c *Comparison) Names(list []string) string { return Names(list) }

// Quantities names what candidates are ranked by.
func (c *Comparison) Quantities() string {
	if c.Quantity == compare.ByKL {
		return "KL"
	}
	return "loss"
}

// Verdict says which candidate of a pair is better.
func (c *Comparison) Verdict(p compare.Pair) string {
	if p.Better == nil {
		return "not distinguishable"
	}
	return show(*p.Better) + " is better"
}

// TaskRow is the score of one model on a task.
type TaskRow struct {
	Name  string
	Score *lmeval.Score
}

// TaskTable has the scores of all models on one task, metric and filter.
type TaskTable struct {
	Title string
	Rows  []TaskRow
}

// Tasks returns the scores by task. The tasks of a group are left out.
func (c *Comparison) Tasks() []TaskTable {
	var out []TaskTable
	at := map[string]int{}
	for i := range c.Models {
		row := &c.Models[i]
		if row.Tasks == nil {
			continue
		}
		for j := range row.Tasks.Scores {
			s := &row.Tasks.Scores[j]
			if s.Within != "" {
				continue
			}
			title := show(s.Task) + ", " + show(s.Metric)
			if s.Filter != "none" {
				title += ", " + show(s.Filter)
			}
			k, known := at[title]
			if !known {
				k = len(out)
				at[title] = k
				out = append(out, TaskTable{Title: title})
			}
			out[k].Rows = append(out[k].Rows, TaskRow{show(row.Name), s})
		}
	}
	return out
}

// command is the command line that made the comparison.
func (c *commander) compare() {
	r := c.comparison
	if r == nil {
		return
	}
	l := newCommand("compare")
	seen := map[string]bool{}
	for i, row := range r.Models {
		if r.Reference != nil && i == 0 || row.Adapter != nil {
			continue
		}
		path := row.Path
		if row.Identity.Digest == c.art.manifest.ContentHash {
			path = c.opts.Artifact // where it is now
		}
		operand := path
		if nameOf(path) != row.Name {
			operand = row.Name + "=" + path
		}
		l.parts = append(l.parts, shellPath(operand))
	}
	l.path("data", r.Data)
	if r.Reference != nil {
		l.path("reference", r.Models[0].Path)
	}
	overlap, unbound, verified := false, false, true
	for _, row := range r.Models {
		verified = verified && row.Identity.Verified
		overlap = overlap || row.Overlap != nil && row.Overlap.SameFile
		if a := row.Adapter; a != nil && !seen[a.Path] {
			seen[a.Path] = true
			l.path("adapter", a.Name+"="+a.Path)
			overlap, unbound = overlap || a.Identity.Overlap.SameFile, unbound || !a.Identity.Bound
		}
	}
	for _, row := range r.Models {
		if row.Tasks != nil {
			l.path("tasks", row.Name+"="+row.Tasks.File)
		}
	}
	setting(l, r.Protocol, r.Ctx, r.Stride, r.Compute)
	c.step(filepath.Base(r.File), l.on("allow-unbound", unbound).on("allow-overlap", overlap).on("verify=false", !verified).on("json", true).to(r.File))
}
