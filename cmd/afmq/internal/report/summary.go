package report

import (
	"fmt"
	"math"

	"afmq/internal/units"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
)

// Summary has the main figures.
type Summary struct {
	Parameters int64                  `json:"parameters"`
	BPW        artifact.BitsPerWeight `json:"bpw"`
	Bytes      int64                  `json:"bytes"`        // of model.safetensors
	Source     int64                  `json:"source_bytes"` // of the tensors of the checkpoint
	SourceBits float64                `json:"source_bpw"`   // over all parameters
	Ratio      float64                `json:"compression"`
	Adapters   []AdapterSize          `json:"adapters"`   // bits per weight with each adapter of --recovery
	Setting    *Setting               `json:"setting"`    // of the first evaluation of this artifact
	Evaluation *eval.Result           `json:"evaluation"` // null without one
	Tiles      []Tile                 `json:"-"`
}

// AdapterSize has the bits per weight of the model with an adapter.
type AdapterSize struct {
	Dir  string  `json:"dir"`
	Rank int     `json:"rank"`
	BPW  float64 `json:"bpw_with_adapter"`
}

// Tile is one figure with its label and a note.
type Tile struct{ Label, Value, Note string }

func (s *sources) summary() (any, error) {
	m := s.art.manifest
	d := &Summary{Parameters: s.art.params, BPW: m.BPW, Bytes: m.Ledger.Total, Source: s.art.source, Adapters: []AdapterSize{}}
	d.SourceBits = 8 * float64(d.Source) / math.Max(float64(d.Parameters), 1)
	d.Ratio = float64(d.Source) / math.Max(float64(d.Bytes), 1)
	for _, r := range s.runs {
		for _, a := range r.record.Adapters {
			d.Adapters = append(d.Adapters, AdapterSize{show(r.dir), a.Rank, a.WithAdapter})
		}
	}
	d.findEvaluation(s.evals)
	tile := func(label, note, format string, args ...any) {
		d.Tiles = append(d.Tiles, Tile{label, fmt.Sprintf(format, args...), note})
	}
	tile("Bits per weight", "in projections", "%.3f", d.BPW.Projections)
	tile("Bits per weight", "in the whole model", "%.3f", d.BPW.Model)
	if n := len(d.Adapters); n > 0 {
		a := d.Adapters[n-1]
		tile("Bits per weight", fmt.Sprintf("with adapter of rank %d", a.Rank), "%.3f", a.BPW)
	}
	tile("Size", fmt.Sprintf("from %s at %.3g bits", units.Size(d.Source), d.SourceBits), "%s", units.Size(d.Bytes))
	tile("Compression", "source to artifact", "%.2f×", d.Ratio)
	if e := d.Evaluation; e != nil {
		if c := e.Comparison; c != nil {
			tile("Perplexity", fmt.Sprintf("%+.2f %% from %.3f", 100*(c.PerplexityRatio-1), c.ReferencePerplexity), "%.3f", e.Perplexity)
			tile("KL divergence", "nats per token, mean", "%s", nats(c.KL.Mean))
			tile("Same top token", "as the reference", "%.1f %%", 100*c.SameTop1)
		} else {
			tile("Perplexity", fmt.Sprintf("± %.3f", e.PerplexitySE), "%.3f", e.Perplexity)
		}
	}
	return d, nil
}

// findEvaluation uses the first evaluation of the artifact without an adapter.
func (d *Summary) findEvaluation(groups []evalGroup) {
	for i := range groups {
		for _, row := range groups[i].rows {
			if row.This && row.Adapter == "" && d.Evaluation == nil {
				d.Setting, d.Evaluation = &groups[i].setting, row.Evaluation
			}
		}
	}
}
