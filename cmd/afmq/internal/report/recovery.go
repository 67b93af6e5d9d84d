package report

import (
	"fmt"
	"html/template"
	"slices"
	"sort"

	"afmq/cmd/afmq/internal/chart"
	"afmq/pkg/recovery"
)

// Recovery has the results of adapters by rank. Each directory has its own table, because the
// held-out text may differ.
type Recovery struct {
	Runs []RecoveryRun `json:"runs"`
}

// RecoveryRun has the results of one directory.
type RecoveryRun struct {
	Dir      string                   `json:"dir"`
	Held     int                      `json:"validation_tokens"`
	Steps    int64                    `json:"steps"`
	Adapters []recovery.AdapterResult `json:"adapters"` // by rank
	Notes    []string                 `json:"notes"`    // what the run approximated for lack of memory
	Plot     template.HTML            `json:"-"`        // empty for a single rank
}

// Teacher reports whether the run had a teacher, and therefore has divergences.
func (r *RecoveryRun) Teacher() bool { return r.Adapters[0].KLAfter != nil }

func (s *sources) recovery() (any, error) {
	if len(s.runs) == 0 {
		return nil, nil
	}
	d := &Recovery{}
	for _, r := range s.runs {
		run := RecoveryRun{Dir: show(r.dir), Held: r.record.ValidationTokens, Steps: r.record.Steps, Notes: slices.Clone(r.record.Notes)}
		if run.Notes == nil {
			run.Notes = []string{}
		}
		for _, a := range r.record.Adapters {
			a.Path, a.Last = show(a.Path), show(a.Last)
			run.Adapters = append(run.Adapters, a)
		}
		sort.Slice(run.Adapters, func(i, j int) bool { return run.Adapters[i].Rank < run.Adapters[j].Rank })
		var err error
		if run.Plot, err = run.draw(); err != nil {
			return nil, err
		}
		d.Runs = append(d.Runs, run)
	}
	return d, nil
}

// draw plots the divergence that remains at each rank or, without a teacher, the perplexity.
func (r *RecoveryRun) draw() (template.HTML, error) {
	if len(r.Adapters) < 2 {
		return "", nil
	}
	c := chart.Chart{
		Title: "Remaining loss by rank of the adapter", X: chart.Axis{Label: "rank", Log: true},
		Y: chart.Axis{Label: "KL to the teacher on held-out text, nats per token", Zero: true},
	}
	before := r.Adapters[0].PerplexityBefore
	if r.Teacher() {
		before = *r.Adapters[0].KLBefore
	} else {
		c.Y.Label, c.Y.Zero = "perplexity on held-out text", false
	}
	c.Rules = []chart.Rule{{Y: before, Label: "without adapter"}}
	initial := chart.Series{Name: "as initialized", Color: 1, Line: true, Marks: true, Dashed: true, Hollow: true}
	trained := chart.Series{Name: "trained", Color: 0, Line: true, Marks: true}
	for _, a := range r.Adapters {
		x, y0, y1 := float64(a.Rank), a.PerplexityInit, a.PerplexityAfter
		if r.Teacher() && a.KLAfter != nil {
			y0, y1 = *a.KLInit, *a.KLAfter
		}
		c.X.Ticks = append(c.X.Ticks, chart.Tick{At: x, Label: fmt.Sprint(a.Rank)})
		initial.Points = append(initial.Points, chart.Point{X: x, Y: y0, Note: fmt.Sprintf("rank %d as initialized: %.5g", a.Rank, y0)})
		trained.Points = append(trained.Points, chart.Point{X: x, Y: y1, Note: fmt.Sprintf("rank %d trained: %.5g", a.Rank, y1)})
	}
	c.Series = []chart.Series{trained, initial}
	return c.HTML()
}
