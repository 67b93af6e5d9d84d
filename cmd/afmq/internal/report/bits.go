package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"afmq/cmd/afmq/internal/chart"
	"afmq/pkg/artifact"
	"afmq/pkg/model"
	"afmq/pkg/sensitivity"
)

// Bits is the map of widths: a row for each layer, a column for each projection.
type Bits struct {
	Kinds  []string     `json:"kinds"`
	Layers []BitsLayer  `json:"layers"`
	Rest   []Matrix     `json:"rest"`   // embedding, and an untied head
	Widths []WidthCount `json:"widths"` // how much has which width
	Group  int          `json:"group_rows"`
	Scale  bool         `json:"row_scale"`
	// Compensation is "gptq" or "none".
	Compensation string `json:"compensation"`
}

// BitsLayer is one layer of the map.
type BitsLayer struct {
	Layer   int      `json:"layer"`
	Modules []Matrix `json:"modules"` // in the order of Kinds
}

// Matrix is how one matrix is stored.
type Matrix struct {
	Name     string        `json:"name"`
	Form     artifact.Form `json:"form"`
	Bits     int           `json:"bits"`
	Bytes    int64         `json:"bytes"`
	RelError float64       `json:"rel_error"` // ‖Ŵ−W‖/‖W‖
	Warning  string        `json:"warning,omitempty"`
}

// WidthCount is how many projections have a width.
type WidthCount struct {
	Bits    int     `json:"bits"`
	Modules int     `json:"modules"`
	Share   float64 `json:"share"` // of the projections' weights
}

// Shade is how dark a cell of the map is, from 0 to 1.
func (m Matrix) Shade() float64 { return shadeOf(m.Bits) }

// Shade is that of the width's cells.
func (w WidthCount) Shade() float64 { return shadeOf(w.Bits) }

// shadeOf tells the widths in use apart: 2, 3 and 4 bits.
func shadeOf(bits int) float64 { return math.Min(float64(bits-1)/4, 1) }

func (s *sources) bits() (any, error) {
	p := s.art.manifest.Plan
	d := &Bits{Rest: []Matrix{}, Group: p.GroupRows, Scale: p.RowScale, Compensation: show(p.Compensation)}
	d.Layers = make([]BitsLayer, s.art.config.Layers)
	for i := range d.Layers {
		d.Layers[i].Layer = i
	}
	weights, total := map[int]int64{}, int64(0)
	counts := map[int]int{}
	for i := range s.art.layout {
		st := &s.art.layout[i]
		if st.Spec.Role == model.Norm || st.Spec.Role == model.Bias {
			continue
		}
		m := Matrix{Name: st.Spec.Module(), Form: st.Form, Bits: st.Bits, Bytes: st.Bytes}
		if pm := s.art.module(m.Name); pm != nil {
			m.RelError, m.Warning = pm.RelError, show(pm.Warning)
		}
		if st.Spec.Role != model.Projection {
			d.Rest = append(d.Rest, m)
			continue
		}
		if st.Spec.Layer == 0 {
			d.Kinds = append(d.Kinds, strings.TrimSuffix(st.Spec.Kind, "_proj"))
		}
		d.Layers[st.Spec.Layer].Modules = append(d.Layers[st.Spec.Layer].Modules, m)
		counts[m.Bits]++
		weights[m.Bits] += st.Weights()
		total += st.Weights()
	}
	for bits, n := range counts {
		d.Widths = append(d.Widths, WidthCount{bits, n, float64(weights[bits]) / float64(total)})
	}
	slices.SortFunc(d.Widths, func(a, b WidthCount) int { return a.Bits - b.Bits })
	return d, nil
}

// Warnings returns the modules that could not be compensated.
func (d *Bits) Warnings() (out []Matrix) {
	for _, l := range d.Layers {
		for _, m := range l.Modules {
			if m.Warning != "" {
				out = append(out, m)
			}
		}
	}
	return out
}

// Sensitivity is the scores of every projection at the least width, and the sums of each
// layer at all of them.
type Sensitivity struct {
	Method string       `json:"method"`
	Unit   string       `json:"unit"`
	Widths []int        `json:"widths"`
	Kinds  []string     `json:"kinds"`
	Layers []ScoreLayer `json:"layers"`
	Rank   []RankCheck  `json:"validation"` // the scores against measurements; empty without any

	Plot   template.HTML `json:"-"`
	Factor string        `json:"-"` // of the numbers in the table
}

// ScoreLayer is one layer's scores.
type ScoreLayer struct {
	Layer int         `json:"layer"`
	Cells []ScoreCell `json:"cells"` // in the order of Kinds
	Sums  []float64   `json:"sums"`  // over the projections, by width
}

// ScoreCell is one projection's scores.
type ScoreCell struct {
	Costs []float64 `json:"costs"` // by width
	Shade float64   `json:"-"`
	Text  string    `json:"-"` // at the least width
}

// RankCheck is how well scores order what was measured.
type RankCheck struct {
	Bits     int     `json:"bits"`
	Modules  int     `json:"modules"`
	Spearman float64 `json:"spearman"`
}

func (s *sources) sensitivity() (any, error) {
	if s.scores == nil {
		return nil, nil
	}
	d := &Sensitivity{Method: string(s.scores.Method), Unit: show(s.scores.Unit), Widths: s.scores.Bits, Rank: []RankCheck{}}
	if d.Unit == "" {
		d.Unit = "score"
	}
	d.Layers = make([]ScoreLayer, s.shape.Config.Layers)
	next, most, least := 0, 0.0, math.Inf(1)
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
		if most = max(most, costs[0]); costs[0] > 0 {
			least = min(least, costs[0])
		}
	}
	d.write(least, most)
	if v := s.scores.Validation; v != nil {
		for _, b := range v.ByBits {
			d.Rank = append(d.Rank, RankCheck{b.Bits, len(v.Modules), b.Spearman})
		}
	}
	var err error
	d.Plot, err = d.draw()
	return d, err
}

// write gives each cell its shade, by the logarithm, and its number, in one unit.
func (d *Sensitivity) write(least, most float64) {
	unit, decimals, label := thousandths(most)
	d.Factor = label
	for _, l := range d.Layers {
		for i := range l.Cells {
			c := &l.Cells[i]
			c.Text = fmt.Sprintf("%.*f", decimals, c.Costs[0]/unit)
			if v := c.Costs[0]; v > 0 && most > least {
				c.Shade = round(0.06+0.94*math.Log(v/least)/math.Log(most/least), 3)
			}
		}
	}
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
	for i, bits := range d.Widths {
		series := chart.Series{Name: fmt.Sprintf("all at %d bits", bits), Color: i % colors, Line: true, Marks: true}
		for _, l := range d.Layers {
			drawn = drawn || l.Sums[i] > 0
			series.Points = append(series.Points, chart.Point{X: float64(l.Layer), Y: l.Sums[i], Note: fmt.Sprintf("layer %d at %d bits: %.4g", l.Layer, bits, l.Sums[i])})
		}
		c.Series = append(c.Series, series)
	}
	if !drawn {
		return "", nil
	}
	return c.HTML()
}

// Choice is what a plan says of how the bits were chosen.
type Choice struct {
	Method    string                 `json:"method"`
	Target    string                 `json:"target,omitempty"`
	BPW       float64                `json:"bpw_projections"`
	Cost      float64                `json:"cost"`
	Bound     float64                `json:"lower_bound"`
	Optimal   bool                   `json:"optimal"`
	Baselines []sensitivity.Baseline `json:"baselines"`
	Pinned    int                    `json:"pinned"` // modules that an override decided
	Made      bool                   `json:"made"`   // by `afmq plan`; else written by hand
}

func (s *sources) choice() (any, error) {
	p := s.plan
	if p == nil {
		return nil, nil
	}
	d := &Choice{
		Method: show(string(p.Method)), BPW: s.art.manifest.BPW.Projections, Cost: p.Cost, Bound: p.LowerBound, Optimal: p.Optimal,
		Baselines: []sensitivity.Baseline{}, Made: p.Method != "",
	}
	if p.Target != nil {
		d.Target = p.Target.String()
	}
	for _, b := range p.Baselines {
		d.Baselines = append(d.Baselines, sensitivity.Baseline{Name: show(b.Name), BPW: b.BPW, Cost: b.Cost, Note: show(b.Note)})
	}
	for _, l := range p.Layers {
		if l.Pinned {
			d.Pinned++
		}
	}
	return d, nil
}
