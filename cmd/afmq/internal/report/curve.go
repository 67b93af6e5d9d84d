package report

import (
	"fmt"
	"html/template"
	"slices"

	"afmq/cmd/afmq/internal/chart"
	"afmq/pkg/eval"
)

// Curve is divergence against bits per weight, for each setting.
type Curve struct {
	Groups []CurveGroup `json:"groups"`
}

// CurveGroup is the points of one setting.
type CurveGroup struct {
	Setting Setting       `json:"setting"`
	Points  []CurvePoint  `json:"points"` // by bits per weight
	Plot    template.HTML `json:"-"`      // of more than one point
	Zero    int           `json:"-"`      // points without divergence, which a logarithm cannot show
}

// CurvePoint is an artifact, or one with an adapter.
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

// draw joins the artifacts of one recipe, and leaves those with adapters apart.
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
	g.Zero = c.Left()
	if shown > 1 {
		g.Plot, err = c.HTML()
	}
	return err
}

// Evaluation is all figures of all models, for each setting.
type Evaluation struct {
	Groups []EvaluationGroup `json:"groups"`
}

// EvaluationGroup is the figures of one setting.
type EvaluationGroup struct {
	Setting   Setting   `json:"setting"`
	Tokens    int       `json:"tokens"`
	Reference float64   `json:"reference_perplexity,omitempty"` // 0 without a reference
	Rows      []EvalRow `json:"rows"`
}

// Decimals returns how many the columns of divergences are written with: so many that the
// largest number of each has four digits.
func (g *EvaluationGroup) Decimals() (d struct{ Median, P99, P999, Max int }) {
	var most eval.Divergence
	for _, r := range g.Rows {
		if c := r.Evaluation.Comparison; c != nil {
			most.Median, most.P99 = max(most.Median, c.KL.Median), max(most.P99, c.KL.P99)
			most.P999, most.Max = max(most.P999, c.KL.P999), max(most.Max, c.KL.Max)
		}
	}
	d.Median, d.P99, d.P999, d.Max = decimals(most.Median), decimals(most.P99), decimals(most.P999), decimals(most.Max)
	return d
}

func (s *sources) evaluation() (any, error) {
	if len(s.evals) == 0 {
		return nil, nil
	}
	d := &Evaluation{}
	for _, g := range s.evals {
		e := EvaluationGroup{Setting: g.setting, Tokens: g.rows[0].Evaluation.Tokens}
		for _, r := range g.rows {
			if c := r.Evaluation.Comparison; c != nil && e.Reference == 0 {
				e.Reference = c.ReferencePerplexity
			}
			r.File = show(r.File)
			e.Rows = append(e.Rows, r)
		}
		d.Groups = append(d.Groups, e)
	}
	return d, nil
}
