package report

import (
	"fmt"
	"strings"

	"afmq/internal/units"
	"afmq/pkg/gate"
	"afmq/pkg/sensitivity"
)

// Verdict says whether the artifact keeps the limits that the inputs of the report set.
type Verdict struct {
	Budgets []Budget   `json:"budgets"` // limits of the size
	Gates   []Judgment `json:"gates"`   // of --gate, then the limits of each --eval
	// Unjudged are the files of --gate that judge nothing: a baseline was recorded, with no limit
	// to keep and no other baseline to compare with.
	Unjudged []string `json:"unjudged"`
}

// Budget is a limit of the size: the target that the bits were chosen for.
type Budget struct {
	Name  string  `json:"name"` // "bpw" (of the projections), "model_bpw" or "bytes"
	Value float64 `json:"value"`
	Limit float64 `json:"limit"`
	Met   bool    `json:"met"`
}

// Judgment is the outcome of a gate, or of the limits of an evaluation.
type Judgment struct {
	File     string       `json:"file"`
	Kind     string       `json:"kind"` // "gate" or "eval-perplexity"
	Adapter  string       `json:"adapter,omitempty"`
	Data     string       `json:"data"`
	Baseline string       `json:"baseline,omitempty"` // of a gate
	Outcome  gate.Outcome `json:"outcome"`
	Checks   []Finding    `json:"checks"`
	// Overlap says what the text has in common with text that the model was fitted to; empty for
	// nothing. Such a judgment does not count.
	Overlap string `json:"overlap,omitempty"`
}

// Finding is the outcome for one limit.
type Finding struct {
	Name    string       `json:"name"`
	Outcome gate.Outcome `json:"outcome"`
	Message string       `json:"message"`
}

func (s *sources) verdict() Verdict {
	v := Verdict{Budgets: []Budget{}, Gates: []Judgment{}, Unjudged: []string{}}
	m := s.art.manifest
	if t := s.target(); t.BPW > 0 {
		name, bpw := "bpw", t.Figure(m.BPW)
		if t.Of == sensitivity.OfModel {
			name = "model_bpw"
		}
		v.Budgets = append(v.Budgets, Budget{name, bpw, t.BPW, bpw <= t.BPW})
	} else if t.MaxBytes > 0 {
		v.Budgets = append(v.Budgets, Budget{"bytes", float64(m.Ledger.Total), float64(t.MaxBytes), m.Ledger.Total <= t.MaxBytes})
	}
	for _, g := range s.gates {
		if len(g.Checks) == 0 {
			v.Unjudged = append(v.Unjudged, show(g.file))
			continue
		}
		v.Gates = append(v.Gates, Judgment{
			File: show(g.file), Kind: "gate", Adapter: show(g.Adapter), Data: show(g.Data), Baseline: show(g.Baseline),
			Outcome: g.Outcome, Checks: findings(g.Checks), Overlap: s.art.gateOverlap(g),
		})
	}
	for _, e := range s.evalFiles {
		if e.Gate == nil || e.Identity.Model.Digest != s.art.manifest.ContentHash {
			continue
		}
		for _, row := range e.rows(s.art) {
			var checks []gate.Check
			for _, c := range e.Gate.Checks {
				if show(c.Adapter) == row.Adapter {
					checks = append(checks, c.Check)
				}
			}
			if checks != nil {
				v.Gates = append(v.Gates, Judgment{
					File: show(e.file), Kind: "eval-perplexity", Adapter: row.Adapter, Data: show(e.Data),
					Outcome: gate.Combine(checks), Checks: findings(checks), Overlap: row.Overlap,
				})
			}
		}
	}
	return v
}

// gateOverlap says what the text of a gate has in common with text that the artifact, its scores
// or the adapter were fitted to.
func (a *opened) gateOverlap(g *gateFile) string {
	if text := a.overlap(g.Overlap, g.Setting.Data); text != "" || g.Training == nil {
		return text
	}
	return describeOverlap(g.Training, "training", "the adapter")
}

// target returns the limit of the size that the bits were chosen for: that of the plan, or the one
// that the manifest records; the zero value if there is none.
func (s *sources) target() sensitivity.Target {
	if p := s.plan; p != nil && p.Target != nil {
		return *p.Target
	}
	if c := s.art.manifest.Plan.Choice; c != nil {
		return sensitivity.Target{BPW: c.BPW, MaxBytes: c.MaxBytes, Of: sensitivity.Scope(c.Of)}
	}
	return sensitivity.Target{}
}

func findings(checks []gate.Check) []Finding {
	out := []Finding{}
	for _, c := range checks {
		out = append(out, Finding{show(string(c.Name)), c.Outcome, show(c.Message)})
	}
	return out
}

// Line is the verdict in one line: the budget, and the outcome of the gates that count.
func (v Verdict) Line() string {
	var parts []string
	for _, b := range v.Budgets {
		parts = append(parts, b.String())
	}
	if len(v.Gates) == 0 {
		return strings.Join(append(parts, "No verdict of a gate was given"), ". ") + "."
	}
	for _, j := range v.Gates {
		parts = append(parts, j.String())
	}
	return strings.Join(parts, ". ") + "."
}

func (b Budget) String() string {
	word := "Budget met"
	if !b.Met {
		word = "Budget EXCEEDED"
	}
	if b.Name == "bytes" {
		return fmt.Sprintf("%s: %s of at most %s", word, units.Size(int64(b.Value)), units.Size(int64(b.Limit)))
	}
	where := "in projections"
	if b.Name == "model_bpw" {
		where = "in the model"
	}
	return fmt.Sprintf("%s: %.4f of at most %g bits per weight %s", word, b.Value, b.Limit, where)
}

// outcomeWords name the outcomes for people.
var outcomeWords = map[gate.Outcome]string{gate.NoWorse: "passed", gate.Worse: "FAILED", gate.Inconclusive: "INCONCLUSIVE"}

func (j Judgment) String() string {
	what := "Gate"
	if j.Kind != "gate" {
		what = "Limits of the evaluation"
	}
	if j.Adapter != "" {
		what += " with adapter " + j.Adapter
	}
	text := fmt.Sprintf("%s %s on %s", what, outcomeWords[j.Outcome], j.Data)
	if j.Overlap != "" {
		return text + ", which does not count: " + j.Overlap
	}
	return text
}
