package report

import (
	"fmt"
	"html/template"
	"strings"

	"afmq/cmd/afmq/internal/chart"
	"afmq/pkg/artifact"
	"afmq/pkg/model"
)

// Sensitivity has the scores of every projection, and their sums over each layer.
type Sensitivity struct {
	Method string          `json:"method"`
	Unit   string          `json:"unit"`
	Widths []int           `json:"widths"`          // of indices or codes
	Forms  []artifact.Form `json:"forms,omitempty"` // that were scored, on another grid than palettes
	Kinds  []string        `json:"kinds"`
	Layers []ScoreLayer    `json:"layers"`
	Rank   []RankCheck     `json:"validation"` // comparison with measured divergences; may be empty

	Plot template.HTML `json:"-"`
}

// ScoreLayer has the scores of one layer.
type ScoreLayer struct {
	Layer int         `json:"layer"`
	Cells []ScoreCell `json:"cells"` // in the order of Kinds
	Sums  []float64   `json:"sums"`  // over the projections, by width
}

// ScoreCell has the scores of one projection.
type ScoreCell struct {
	Costs []float64 `json:"costs"` // by width
}

// RankCheck is the rank correlation between scores and measured divergences.
type RankCheck struct {
	Bits     int           `json:"bits"`
	Form     artifact.Form `json:"form,omitempty"`
	Modules  int           `json:"modules"`
	Spearman float64       `json:"spearman"`
}

func (s *sources) sensitivity() (any, error) {
	if s.scores == nil {
		return nil, nil
	}
	d := &Sensitivity{Method: string(s.scores.Method), Unit: show(s.scores.Unit), Widths: []int{}, Forms: s.scores.Forms, Rank: []RankCheck{}}
	for _, w := range s.scores.Widths() {
		d.Widths = append(d.Widths, w.Bits)
	}
	if d.Unit == "" {
		d.Unit = "score"
	}
	d.Layers = make([]ScoreLayer, s.shape.Config.Layers)
	next := 0
	for _, spec := range s.shape.Config.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		if spec.Layer == 0 {
			d.Kinds = append(d.Kinds, strings.TrimSuffix(spec.Kind, "_proj"))
		}
		costs := s.scores.Modules[next].Costs
		next++
		l := &d.Layers[spec.Layer]
		l.Layer = spec.Layer
		l.Cells = append(l.Cells, ScoreCell{Costs: costs})
		if l.Sums == nil {
			l.Sums = make([]float64, len(costs))
		}
		for i, c := range costs {
			l.Sums[i] += c
		}
	}
	if v := s.scores.Validation; v != nil {
		for _, b := range v.ByBits {
			d.Rank = append(d.Rank, RankCheck{b.Bits, b.Form, len(v.Modules), b.Spearman})
		}
	}
	var err error
	d.Plot, err = d.draw()
	return d, err
}

// Labels names what was scored: "4 bits" or "q4_k".
func (d *Sensitivity) Labels() (out []string) {
	for i, bits := range d.Widths {
		out = append(out, label(bits, ""))
		if len(d.Forms) > 0 {
			out[i] = label(bits, d.Forms[i])
		}
	}
	return out
}

func label(bits int, form artifact.Form) string {
	if form != "" {
		return show(string(form))
	}
	return fmt.Sprintf("%d bits", bits)
}

// Label names the width of a check.
func (r RankCheck) Label() string { return label(r.Bits, r.Form) }

// Decimals returns the number of decimals of the sums at each width, by the largest of them.
func (d *Sensitivity) Decimals() []int {
	out := make([]int, len(d.Widths))
	for i := range out {
		most := 0.0
		for _, l := range d.Layers {
			most = max(most, l.Sums[i])
		}
		out[i] = decimals(most)
	}
	return out
}

func (d *Sensitivity) draw() (template.HTML, error) {
	c := chart.Chart{
		Title: "Sum of the scores of each layer's projections, by width",
		X:     chart.Axis{Label: "layer"}, Y: chart.Axis{Label: "sum of scores, " + d.Unit, Log: true},
	}
	every := (len(d.Layers) + 7) / 8
	for i := range d.Layers {
		if i%every == 0 {
			c.X.Ticks = append(c.X.Ticks, chart.Tick{At: float64(i), Label: fmt.Sprint(i)})
		}
	}
	drawn := false
	for i, name := range d.Labels() {
		series := chart.Series{Name: "all at " + name, Color: i % colors, Line: true, Marks: true}
		for _, l := range d.Layers {
			drawn = drawn || l.Sums[i] > 0
			series.Points = append(series.Points, chart.Point{X: float64(l.Layer), Y: l.Sums[i], Note: fmt.Sprintf("layer %d at %s: %.4g", l.Layer, name, l.Sums[i])})
		}
		c.Series = append(c.Series, series)
	}
	if !drawn {
		return "", nil
	}
	return c.HTML()
}
