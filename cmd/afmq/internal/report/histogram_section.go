package report

import (
	"cmp"
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

// worstModules is the number of modules whose weights are shown.
const worstModules = 5

// Orders of the modules in [Weights].
const (
	byLoss  = "predicted_loss"
	byError = "relative_error"
)

// Weights has the look-up tables of the worst modules and, with Options.Reference, the distribution of
// the weights that they stand for.
type Weights struct {
	// By is what the modules are ordered by, the largest first: "predicted_loss", the score at the
	// module's bits, or "relative_error".
	By       string         `json:"by"`
	Original bool           `json:"original"` // the original weights were read
	Modules  []WeightModule `json:"modules"`
}

// WeightModule has the tables of one matrix.
type WeightModule struct {
	Name     string       `json:"name"`
	Bits     int          `json:"bits"`
	Tables   int          `json:"tables"` // look-up tables, one for each group of rows
	Scale    bool         `json:"row_scale"`
	RelError float64      `json:"rel_error"`
	Loss     *float64     `json:"predicted_loss"` // null without a score at these bits
	Entries  []TableEntry `json:"entries"`
	// Original is the distribution of the original weights; null without them.
	Original *Distribution `json:"original"`
	Plot     template.HTML `json:"-"`
}

func (s *sources) weights() (any, error) {
	d, chosen := s.worst()
	r, err := artifact.OpenTensors(s.art.dir, s.art.manifest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var src *artifact.Source
	if s.opts.Reference != "" { // the artifact's source: readSamples has checked it
		if src, err = artifact.OpenSource(s.ctx, s.opts.Reference); err != nil {
			return nil, err
		}
		defer src.Close()
		d.Original = true
	}
	for i, at := range chosen {
		if err := s.count(&d.Modules[i], r, &r.Layout[at], src, at); err != nil {
			return nil, err
		}
	}
	return d, d.draw()
}

// Many reports whether a module has so many values that their ranges are not drawn.
func (d *Weights) Many() bool {
	return slices.ContainsFunc(d.Modules, func(m WeightModule) bool { return m.Bits > 5 })
}

// worst chooses the palettized matrices with the largest predicted loss or, if a score is missing,
// with the largest relative error. It returns their positions in the layout, too.
func (s *sources) worst() (*Weights, []int) {
	d := &Weights{By: byLoss, Modules: []WeightModule{}}
	var modules []WeightModule
	var at []int
	next := 0
	for i := range s.art.layout {
		st := &s.art.layout[i]
		var loss *float64
		if st.Spec.Role == model.Projection && s.scores != nil {
			if cost, ok := s.scores.Cost(next, sensitivity.Width{Form: st.Form, Bits: st.Bits}); ok && s.predicted() {
				loss = &cost
			}
			next++
		}
		if st.Form != artifact.Palette {
			continue
		}
		m := WeightModule{Name: show(st.Spec.Module()), Bits: st.Bits, Loss: loss, Scale: s.art.manifest.Plan.RowScale}
		if rec := s.art.module(st.Spec.Module()); rec != nil {
			m.RelError = rec.RelError
		}
		if loss == nil && st.Spec.Role == model.Projection {
			d.By = byError
		}
		modules, at = append(modules, m), append(at, i)
	}
	value := func(i int) float64 {
		if d.By == byError {
			return modules[i].RelError
		} else if modules[i].Loss == nil {
			return -1 // a head, which has no score
		}
		return *modules[i].Loss
	}
	order := make([]int, len(modules))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(value(b), value(a)) })
	var chosen []int
	for _, i := range order[:min(worstModules, len(order))] {
		d.Modules, chosen = append(d.Modules, modules[i]), append(chosen, at[i])
	}
	return d, chosen
}

// count reads one matrix, which is compared with its digest in the manifest, and the original one
// from src unless that is nil. at is the position of the matrix among the tensors of the model.
func (s *sources) count(d *WeightModule, r *artifact.Reader, st *artifact.StoredTensor, src *artifact.Source, at int) error {
	defer r.Release(st)
	if err := r.CheckTensor(s.ctx, st); err != nil {
		return err
	}
	m, err := r.Palette(st)
	if err != nil {
		return err
	}
	d.Tables = m.Groups()
	if d.Entries, err = tableEntries(s.ctx, s.pool, r.File.Path(), m); err != nil || src == nil {
		return err
	}
	t := src.Tensors[at].Tensor
	defer t.Release()
	if d.Original, err = distribution(s.ctx, s.pool, t, m, d.Entries); err == nil {
		d.Original.crop()
	}
	return err
}

// Share returns the weights of an entry, divided by all.
func (d *WeightModule) Share(e TableEntry) float64 {
	total := int64(0)
	for _, e := range d.Entries {
		total += e.Weights
	}
	return float64(e.Weights) / float64(total)
}

// draw makes the plots. With row scales all have the same range.
func (d *Weights) draw() (err error) {
	low, high := math.Inf(1), math.Inf(-1)
	for i := range d.Modules {
		from, to := d.Modules[i].extent()
		low, high = min(low, from), max(high, to)
	}
	for i := range d.Modules {
		m := &d.Modules[i]
		from, to := m.extent()
		if m.Scale {
			from, to = low, high
		}
		if m.Plot, err = m.draw(from, to); err != nil {
			return err
		}
	}
	return nil
}

// extent returns the range of the tables and of the bins.
func (d *WeightModule) extent() (from, to float64) {
	from, to = d.Entries[0].Low, d.Entries[len(d.Entries)-1].High
	if o := d.Original; o != nil {
		from, to = min(from, o.From), max(to, o.edge(len(o.Counts)))
	}
	margin := max((to-from)*0.03, 1e-9)
	return from - margin, to + margin
}

// draw plots the distribution of the original weights with the values of the tables or, without it,
// the share of the weights that have each value.
func (d *WeightModule) draw(from, to float64) (template.HTML, error) {
	c := chart.Chart{
		Small: true, X: chart.Axis{Label: "weight", From: from, To: to}, Y: chart.Axis{Label: "share of the weights, %", Zero: true},
		Title: fmt.Sprintf("Share of the weights of %s at each of the %d values of its look-up tables", d.Name, len(d.Entries)),
	}
	if d.Scale {
		c.X.Label = "weight ÷ scale of its row"
	}
	if o := d.Original; o != nil {
		c.Title = fmt.Sprintf("Distribution of the weights of %s, and the %d values of its look-up tables", d.Name, len(d.Entries))
		s := chart.Series{Color: 6, Area: true}
		for _, b := range o.Bins() {
			s.Points = append(s.Points, chart.Point{X: b.From, Y: 100 * b.Share}, chart.Point{X: b.To, Y: 100 * b.Share})
		}
		c.Series = []chart.Series{s}
	}
	for i, e := range d.Entries {
		share := 100 * d.Share(e)
		stem := chart.Stem{X: e.Median, Low: e.Low, High: e.High, Y: share}
		stem.Note = fmt.Sprintf("value %d of %d: %.4g, %.4g to %.4g in 90 %% of the tables; %.1f %% of the weights", i+1, len(d.Entries), e.Median, e.Low, e.High, share)
		if d.Original != nil {
			stem.Y = math.NaN()
		}
		c.Stems = append(c.Stems, stem)
	}
	return c.HTML()
}

// Bin is a bin of a distribution.
type Bin struct {
	From, To float64
	Share    float64 // of all weights
}

// Bins returns the bins with the share of the weights in each.
func (d *Distribution) Bins() []Bin {
	total := float64(d.Total())
	out := make([]Bin, len(d.Counts))
	for i, n := range d.Counts {
		out[i] = Bin{d.edge(i), d.edge(i + 1), float64(n) / total}
	}
	return out
}

// Total returns the number of weights.
func (d *Distribution) Total() int64 {
	total := d.Below + d.Above + d.Unscaled
	for _, n := range d.Counts {
		total += n
	}
	return total
}

// Outside returns the share of the weights beyond the bins.
func (d *Distribution) Outside() float64 {
	return float64(d.Below+d.Above) / float64(d.Total())
}

// Short returns the module's name without the prefix of all layers.
func (d *WeightModule) Short() string { return strings.TrimPrefix(d.Name, "model.") }
