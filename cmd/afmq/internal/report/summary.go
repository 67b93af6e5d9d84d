package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"afmq/internal/units"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
)

// Summary has the main figures.
type Summary struct {
	Headline   string                 `json:"headline"` // the main figures in one or two sentences
	Verdict    Verdict                `json:"verdict"`
	Parameters int64                  `json:"parameters"`
	BPW        artifact.BitsPerWeight `json:"bpw"`
	Bytes      int64                  `json:"bytes"`        // of model.safetensors
	Source     int64                  `json:"source_bytes"` // of the tensors of the checkpoint
	SourceBits float64                `json:"source_bpw"`   // over all parameters
	Ratio      float64                `json:"compression"`
	Adapters   []AdapterSize          `json:"adapters"` // of --recovery
	// Setting is that of the first evaluation of this artifact on text that it was not fitted to,
	// one with a reference if there is one; nil without any.
	Setting    *Setting     `json:"setting"`
	Evaluation *eval.Result `json:"evaluation"` // of the artifact without an adapter in that setting
	intervals
	Models  []EvalRow `json:"models"` // this artifact, its adapters and its source in that setting
	Unused  []string  `json:"unused"` // why evaluations of this artifact are not used here
	Tiles   []Tile    `json:"-"`
	Checked bool      `json:"-"` // Evaluation is of weights that were compared with the digest
}

// AdapterSize has the size of an adapter of --recovery and its figures on the test text of the run.
type AdapterSize struct {
	Dir      string   `json:"dir"`
	Rank     int      `json:"rank"`
	Bytes    int64    `json:"bytes"` // of adapter_model.safetensors
	BPW      float64  `json:"bpw_with_adapter"`
	KLBefore *float64 `json:"kl_before"` // nats per token, on the test text; nil without a teacher or a test
	KLAfter  *float64 `json:"kl_after"`
	Tokens   int      `json:"test_tokens"` // of the test text
}

// Tile is one figure with its label and a note.
type Tile struct{ Label, Value, Note string }

func (s *sources) summary() (any, error) {
	m := s.art.manifest
	d := &Summary{
		Parameters: s.art.params, BPW: m.BPW, Bytes: m.Ledger.Total, Source: s.art.source,
		Adapters: []AdapterSize{}, Models: []EvalRow{}, Unused: []string{}, Verdict: s.verdict(),
	}
	d.SourceBits = 8 * float64(d.Source) / math.Max(float64(d.Parameters), 1)
	d.Ratio = float64(d.Source) / math.Max(float64(d.Bytes), 1)
	for _, r := range s.runs {
		for _, a := range r.record.Adapters {
			size := AdapterSize{Dir: show(r.dir), Rank: a.Rank, Bytes: a.Bytes, BPW: a.WithAdapter, Tokens: r.record.TestTokens}
			if t := a.Test; t != nil {
				size.KLBefore, size.KLAfter = t.KLBefore, t.KLAfter
			}
			d.Adapters = append(d.Adapters, size)
		}
	}
	d.findEvaluation(s.evals)
	d.Headline = d.headline(nameOf(s.opts.Artifact))
	d.makeTiles()
	return d, nil
}

// findEvaluation chooses the evaluation that the summary quotes, and the rows beside it. Rows whose
// text overlaps with text that the model was fitted to are left out.
func (d *Summary) findEvaluation(groups []*evalGroup) {
	var found *evalGroup
	for _, g := range groups {
		for _, row := range g.rows {
			switch {
			case !row.This || row.Adapter != "":
			case row.Overlap != "":
				d.Unused = append(d.Unused, fmt.Sprintf("%s: %s", show(row.File), row.Overlap))
			case found == nil || d.Evaluation.Comparison == nil && row.Evaluation.Comparison != nil:
				found, d.Setting, d.Evaluation, d.intervals, d.Checked = g, &g.setting, row.Evaluation, row.intervals, row.Verified
			}
		}
	}
	if found == nil {
		return
	}
	for _, row := range found.rows {
		if row.Overlap == "" && (row.This || row.Source) {
			row.File = show(row.File)
			d.Models = append(d.Models, row)
		}
	}
	slices.SortStableFunc(d.Models, func(a, b EvalRow) int { // the source first
		switch {
		case a.Source == b.Source:
			return 0
		case a.Source:
			return -1
		}
		return 1
	})
}

// TestLines describes the adapters of each recovery run that has a teacher and a test text.
func (d *Summary) TestLines() []string {
	var out []string
	for i := 0; i < len(d.Adapters); {
		dir, first := d.Adapters[i].Dir, i
		var after []string
		for ; i < len(d.Adapters) && d.Adapters[i].Dir == dir; i++ {
			if a := d.Adapters[i]; a.KLAfter != nil {
				after = append(after, fmt.Sprintf("%s (rank %d)", nats(*a.KLAfter), a.Rank))
			}
		}
		if a := d.Adapters[first]; len(after) > 0 {
			out = append(out, fmt.Sprintf("On the test text of %s, %s tokens, the divergence from the teacher falls from %s to %s.",
				dir, units.Thousands(int64(a.Tokens)), nats(*a.KLBefore), strings.Join(after, ", ")))
		}
	}
	return out
}

// Reference returns the reference's perplexity, 0 without one.
func (d *Summary) Reference() float64 {
	if d.Evaluation == nil || d.Evaluation.Comparison == nil {
		return 0
	}
	return d.Evaluation.ReferencePerplexity
}

// Listed reports whether the summary has a table of models: of more than the artifact.
func (d *Summary) Listed() bool { return len(d.Models) > 1 }

func (d *Summary) makeTiles() {
	tile := func(label, note, format string, args ...any) {
		d.Tiles = append(d.Tiles, Tile{label, fmt.Sprintf(format, args...), note})
	}
	tile("Bits per weight", "in projections", "%.3f", d.BPW.Projections)
	tile("Bits per weight", "in the whole model", "%.3f", d.BPW.Model)
	tile("Size", fmt.Sprintf("from %s at %.3g bits", units.Size(d.Source), d.SourceBits), "%s", units.Size(d.Bytes))
	tile("Compression", "source to artifact", "%.2f×", d.Ratio)
	e := d.Evaluation
	if e == nil {
		return
	}
	c := e.Comparison
	if c == nil {
		tile("Perplexity", fmt.Sprintf("± %.3f", e.PerplexitySE), "%.3f", e.Perplexity)
		return
	}
	tile("Perplexity", fmt.Sprintf("%+.2f %% from %.3f", 100*(c.PerplexityRatio-1), c.ReferencePerplexity), "%.3f", e.Perplexity)
	tile("KL divergence", "nats per token, "+uncertainty(d.KLInterval), "%s", nats(c.KL.Mean))
	tile("Same top token", "as the reference", "%.1f %%", 100*c.SameTop1)
	if a := d.bestAdapter(); a != nil {
		tile("KL with adapter", fmt.Sprintf("%s, %s more", a.Adapter, units.Size(a.Bytes-d.Bytes)), "%s", nats(a.Evaluation.KL.Mean))
	}
}
