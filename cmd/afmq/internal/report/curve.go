package report

import (
	"fmt"
	"html/template"
	"slices"

	"afmq/cmd/afmq/internal/chart"
)

// Curve is divergence against bits per weight, for each setting.
type Curve struct {
	Groups []CurveGroup `json:"groups"`
}

// CurveGroup is the points of one setting.
type CurveGroup struct {
	Setting Setting       `json:"setting"`
	Points  []CurvePoint  `json:"points"` // by bits per weight
	Plot    template.HTML `json:"-"`      // empty for a single point
	Zero    int           `json:"-"`      // points with divergence 0, which a logarithmic axis omits
}

// CurvePoint is an artifact, with or without an adapter.
type CurvePoint struct {
	Name    string  `json:"name"`
	Adapter string  `json:"adapter,omitempty"`
	Recipe  string  `json:"recipe"`
	This    bool    `json:"this"`
	BPW     float64 `json:"bpw_projections"`
	KL      float64 `json:"kl_mean"`
	Ratio   float64 `json:"perplexity_ratio"`
}

func (s *sources) curve() (any, error) {
	d := &Curve{}
	for _, g := range s.evals {
		c := CurveGroup{Setting: g.setting}
		for _, r := range g.rows {
			if k := r.Evaluation.Comparison; k != nil && !r.Source {
				c.Points = append(c.Points, CurvePoint{r.Name, r.Adapter, r.Recipe, r.This, r.Projections, k.KL.Mean, k.PerplexityRatio})
			}
		}
		if len(c.Points) == 0 {
			continue
		}
		slices.SortStableFunc(c.Points, func(a, b CurvePoint) int {
			switch {
			case a.BPW < b.BPW:
				return -1
			case a.BPW > b.BPW:
				return 1
			}
			return 0
		})
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

// draw connects the artifacts of one recipe by a line. Artifacts with adapters are separate points.
func (g *CurveGroup) draw() (err error) {
	c := chart.Chart{
		Title: fmt.Sprintf("KL divergence against bits per weight on %s", g.Setting.Data),
		X:     chart.Axis{Label: "bits per weight in projections"}, Y: chart.Axis{Label: "KL to the reference, nats per token", Log: true},
	}
	at := map[string]int{}
	shown := 0
	for _, p := range g.Points {
		name := p.Recipe
		if p.Adapter != "" {
			name = "with adapter " + p.Adapter
		}
		i, ok := at[name]
		if !ok {
			i = len(c.Series)
			at[name] = i
			c.Series = append(c.Series, chart.Series{Name: name, Color: i % colors, Line: p.Adapter == "", Marks: true, Hollow: p.Adapter != ""})
		}
		point := chart.Point{X: p.BPW, Y: p.KL, Note: fmt.Sprintf("%s, %s: %.4f bits, KL %s", p.Name, name, p.BPW, nats(p.KL))}
		if p.This && p.Adapter == "" {
			point.Ring, point.Label = true, "this artifact"
		}
		if p.KL > 0 {
			shown++
		}
		c.Series[i].Points = append(c.Series[i].Points, point)
	}
	g.Zero = c.Omitted()
	if shown > 1 {
		g.Plot, err = c.HTML()
	}
	return err
}
