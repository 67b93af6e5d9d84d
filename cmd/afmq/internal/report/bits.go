package report

import (
	"slices"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/model"
)

// Bits is the map of bit widths: a row for each layer, a column for each projection.
type Bits struct {
	Kinds  []string     `json:"kinds"`
	Layers []BitsLayer  `json:"layers"`
	Rest   []Matrix     `json:"rest"`   // embedding, and an untied head
	Widths []WidthCount `json:"widths"` // number of projections at each width
	Group  int          `json:"group_rows"`
	Scale  bool         `json:"row_scale"`
	Grid   string       `json:"grid,omitempty"` // family of the grids, such as gguf; empty for palettes
	// Compensation is "loss", "gptq" or "none".
	Compensation string `json:"compensation"`
	Heat         Heat   `json:"-"`
}

// BitsLayer is a row of the map.
type BitsLayer struct {
	Layer   int      `json:"layer"`
	Modules []Matrix `json:"modules"` // in the order of Kinds
}

// Matrix describes the storage of one matrix.
type Matrix struct {
	Name     string        `json:"name"`
	Form     artifact.Form `json:"form"`
	Bits     int           `json:"bits"`
	Bytes    int64         `json:"bytes"`
	RelError float64       `json:"rel_error"` // ‖Ŵ−W‖/‖W‖
	Warning  string        `json:"warning,omitempty"`
}

// WidthCount is the number of projections with a width.
type WidthCount struct {
	Bits    int     `json:"bits"`
	Modules int     `json:"modules"`
	Share   float64 `json:"share"` // of the projections' weights
}

// Step returns the color of the width in the heat map.
func (w WidthCount) Step() int { return bitsStep(w.Bits) }

func (s *sources) bits() (any, error) {
	p := s.art.manifest.Plan
	d := &Bits{Rest: []Matrix{}, Group: p.GroupRows, Scale: p.RowScale, Grid: p.Grid, Compensation: show(p.Compensation)}
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
	d.Heat = s.heat(d)
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
