package report

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"

	"afmq/cmd/afmq/internal/chart"
)

// Curve is divergence against size, for each setting.
type Curve struct {
	Groups []CurveGroup `json:"groups"`
}

// CurveGroup is the points of one setting.
type CurveGroup struct {
	Setting Setting       `json:"setting"`
	Points  []CurvePoint  `json:"points"` // by size
	Plot    template.HTML `json:"-"`      // empty for a single point
	Zero    int           `json:"-"`      // points with divergence 0, which a logarithmic axis omits
}

// CurvePoint is an artifact, with or without an adapter.
type CurvePoint struct {
	Name    string  `json:"name"`
	Adapter string  `json:"adapter,omitempty"`
	Recipe  string  `json:"recipe"`
	This    bool    `json:"this"`
	Bytes   int64   `json:"bytes"` // of model.safetensors, with adapter_model.safetensors
	BPW     float64 `json:"bpw_projections"`
	Model   float64 `json:"bpw_model"` // over the whole model, with the tensors of the adapter
	KL      float64 `json:"kl_mean"`
	Ratio   float64 `json:"perplexity_ratio"`
	Overlap string  `json:"overlap,omitempty"` // see EvalRow
	intervals

	digest, family string
}

func (s *sources) curve() (any, error) {
	d := &Curve{}
	for _, g := range s.evals {
		c := CurveGroup{Setting: g.setting}
		for _, r := range g.rows {
			if k := r.Evaluation.Comparison; k != nil && !r.Source {
				c.Points = append(c.Points, CurvePoint{
					r.Name, r.Adapter, r.Recipe, r.This, r.Bytes, r.Projections, r.Model, k.KL.Mean, k.PerplexityRatio, r.Overlap, r.intervals, r.digest, r.family,
				})
			}
		}
		if len(c.Points) == 0 {
			continue
		}
		slices.SortStableFunc(c.Points, func(a, b CurvePoint) int { return cmp.Compare(a.Bytes, b.Bytes) })
		if err := c.draw(); err != nil {
			return nil, err
		}
		d.Groups = append(d.Groups, c)
	}
	if d.Groups == nil {
		return nil, nil
	}
	return d, nil
}

// draw plots the points at their sizes. A line joins the artifacts of one family, and a dashed one
// each adapter with the artifact that it runs on. Points on text that the model was fitted to are
// on no line.
func (g *CurveGroup) draw() (err error) {
	unit, name := sizeUnit(g.Points)
	c := chart.Chart{
		Title: fmt.Sprintf("KL divergence against size on %s", g.Setting.Data),
		X:     chart.Axis{Label: name + " of weights, adapter included"}, Y: chart.Axis{Label: "KL to the reference, nats per token", Log: true},
	}
	point := func(p CurvePoint) chart.Point {
		return chart.Point{
			X: float64(p.Bytes) / unit, Y: p.KL, Label: p.label(false), Ring: p.This && p.Adapter == "",
			Note: fmt.Sprintf("%s, %s: %.4g %s, KL %s", p.label(true), p.Recipe, float64(p.Bytes)/unit, name, nats(p.KL)),
		}
	}
	families, adapters, fitted := newSeriesSet(), newSeriesSet(), newSeriesSet()
	shown := 0
	for _, p := range g.Points {
		if p.KL > 0 {
			shown++
		}
		switch {
		case p.Overlap != "":
			fitted.add("", chart.Series{Name: "text overlaps with calibration or training text", Marks: true, Hollow: true}, point(p))
		case p.Adapter == "":
			families.add(p.family, chart.Series{Name: p.Recipe, Line: true, Marks: true}, point(p))
		default:
			points := []chart.Point{point(p)}
			if base := g.base(p.digest); base != nil { // a star, whose center is the artifact
				points = []chart.Point{{X: float64(base.Bytes) / unit, Y: base.KL, Bare: true}, points[0]}
			}
			adapters.add(p.digest, chart.Series{Name: p.Name + " with adapter", Line: true, Dashed: true, Marks: true, Hollow: true}, points...)
		}
	}
	for _, set := range []*seriesSet{families, adapters, fitted} {
		for _, s := range set.list {
			s.Color = len(c.Series) % colors
			c.Series = append(c.Series, *s)
		}
	}
	g.Zero = c.Omitted()
	if shown > 1 {
		g.Plot, err = c.HTML()
	}
	return err
}

// Marked reports whether the text of a point overlaps with text that its model was fitted to.
func (g *CurveGroup) Marked() bool {
	return slices.ContainsFunc(g.Points, func(p CurvePoint) bool { return p.Overlap != "" })
}

// base returns the point of a model without an adapter, nil if it is not shown on a line.
func (g *CurveGroup) base(digest string) *CurvePoint {
	i := slices.IndexFunc(g.Points, func(p CurvePoint) bool { return p.digest == digest && p.Adapter == "" && p.Overlap == "" })
	if i < 0 {
		return nil
	}
	return &g.Points[i]
}

// label is the name of a point; that of an adapter has the name of its artifact only if whole is
// set, because a line leads to it.
func (p *CurvePoint) label(whole bool) string {
	switch {
	case p.Adapter == "":
		return p.Name
	case whole:
		return p.Name + " + " + p.Adapter
	}
	return "+ " + p.Adapter
}

// sizeUnit returns the largest binary unit in which the largest size is at least 1.
func sizeUnit(points []CurvePoint) (unit float64, name string) {
	most := int64(0)
	for _, p := range points {
		most = max(most, p.Bytes)
	}
	unit, name = 1, "bytes"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if float64(most) < 1024*unit {
			break
		}
		unit, name = 1024*unit, next
	}
	return unit, name
}

// seriesSet is a list of series, each with a key.
type seriesSet struct {
	list []*chart.Series
	at   map[string]*chart.Series
}

func newSeriesSet() *seriesSet { return &seriesSet{at: map[string]*chart.Series{}} }

// add adds points to the series of a key, which is a copy of made if it is new.
func (s *seriesSet) add(key string, made chart.Series, points ...chart.Point) {
	if s.at[key] == nil {
		s.at[key] = &made
		s.list = append(s.list, &made)
	}
	s.at[key].Points = append(s.at[key].Points, points...)
}
