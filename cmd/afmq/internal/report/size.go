package report

import (
	"math"

	"afmq/pkg/grid"
)

// Size breaks the bytes of model.safetensors down by use.
type Size struct {
	Parts  []Part `json:"parts"`
	Total  int64  `json:"total"`
	Source int64  `json:"source_bytes"`
}

// Part is the bytes of one use.
type Part struct {
	Name  string  `json:"name"`
	Bytes int64   `json:"bytes"`
	Share float64 `json:"share"` // of the total
	Color int     `json:"-"`
	// X and Width are in thousandths of the larger of checkpoint and artifact.
	X     float64 `json:"-"`
	Width float64 `json:"-"`
}

func (s *sources) size() (any, error) {
	l := s.art.manifest.Ledger
	d := &Size{Total: l.Total, Source: s.art.source}
	parts := []Part{
		{Name: "Indices", Bytes: l.Indices}, {Name: "Look-up tables", Bytes: l.LUT}, {Name: "Row scales", Bytes: l.RowScale},
		{Name: "Embedding and head, 8 bit", Bytes: l.Embedding},
	}
	switch s.art.manifest.Plan.Grid {
	case "":
	case grid.FamilyGGUF:
		parts = []Part{{Name: "Blocks", Bytes: l.Blocks}}
	default:
		parts = []Part{{Name: "Codes", Bytes: l.Codes}, {Name: "Scales", Bytes: l.Scales}}
	}
	parts = append(parts, Part{Name: "Norms, biases, kept matrices", Bytes: l.Other}, Part{Name: "File header", Bytes: l.Container})
	x, scale := 0.0, 1000/float64(max(l.Total, d.Source, 1))
	for i, p := range parts {
		p.Color, p.X, p.Width = i, x, float64(p.Bytes)*scale
		p.Share = float64(p.Bytes) / math.Max(float64(l.Total), 1)
		x += p.Width
		d.Parts = append(d.Parts, p)
	}
	return d, nil
}

// SourceWidth returns the length of the checkpoint's bar in the same unit.
func (d *Size) SourceWidth() float64 {
	return 1000 * float64(d.Source) / float64(max(d.Total, d.Source, 1))
}
