package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"afmq/internal/units"
	"afmq/pkg/artifact"
	"afmq/pkg/sensitivity"
)

// heatSteps is the number of colors of the heat map, from light to dark: classes h0 to h6 of
// the style sheet.
const heatSteps = 7

// Heat is the heat map of layers and projections. Each cell has a value of every quantity; the
// page shows one quantity at a time.
type Heat struct {
	Quantities []Quantity
	Kinds      []string // columns
	Layers     []HeatLayer
	Scored     bool // the details have scores
	Fewest     int  // bits that the sensitivity is for
}

// Quantity is one that the map shows.
type Quantity struct {
	Name    string // label of the switch
	Caption string // meaning and unit of the numbers
	// Low and High are the labels of a continuous scale; Widths replaces them for bits.
	Low, High string
	Widths    []WidthCount
}

// HeatLayer is a row of the map.
type HeatLayer struct {
	Layer int
	Cells []HeatCell // in the order of Heat.Kinds
}

// HeatCell is one projection.
type HeatCell struct {
	Matrix
	Values []HeatValue // in the order of Heat.Quantities
	// Score is the sensitivity at the fewest bits, Loss at the bits of the projection; nil
	// where they are not known.
	Score, Loss *float64
}

// HeatValue is the text of a cell and its color.
type HeatValue struct {
	Text string
	Step int // 0 to heatSteps-1
}

// heat makes the map of d. With scores it includes the sensitivity.
func (s *sources) heat(d *Bits) Heat {
	h := Heat{Kinds: d.Kinds, Scored: s.scores != nil}
	next := 0
	for _, l := range d.Layers {
		row := HeatLayer{Layer: l.Layer}
		for _, m := range l.Modules {
			c := HeatCell{Matrix: m}
			c.Name = show(m.Name)
			if s.scores != nil {
				costs := s.scores.Modules[next].Costs
				c.Score = &costs[0]
				if cost, ok := s.scores.Cost(next, sensitivity.Width{Form: m.Form, Bits: m.Bits}); ok && s.predicted() {
					c.Loss = &cost
				}
			}
			next++
			row.Cells = append(row.Cells, c)
		}
		h.Layers = append(h.Layers, row)
	}
	caption, size := "Bits of an index into the look-up tables.", "indices, look-up tables and row scales"
	if d.Grid != "" {
		caption, size = "Bits of a code; scales take further bits.", "codes and scales"
	}
	h.add(Quantity{Name: "Bits", Caption: caption, Widths: d.Widths},
		func(c *HeatCell) HeatValue { return HeatValue{strconv.Itoa(c.Bits), bitsStep(c.Bits)} })
	if s.scores != nil {
		h.Fewest = s.scores.Widths()[0].Bits
		h.addSensitivity(show(s.scores.Unit))
	}
	h.addSize(size)
	h.addError()
	return h
}

// add appends a quantity with the value of every cell.
func (h *Heat) add(q Quantity, value func(*HeatCell) HeatValue) {
	h.Quantities = append(h.Quantities, q)
	for _, l := range h.Layers {
		for i := range l.Cells {
			l.Cells[i].Values = append(l.Cells[i].Values, value(&l.Cells[i]))
		}
	}
}

// most returns the largest value of all cells, and the smallest positive one.
func (h *Heat) most(value func(*HeatCell) float64) (most, least float64) {
	least = math.Inf(1)
	for _, l := range h.Layers {
		for i := range l.Cells {
			v := value(&l.Cells[i])
			if most = max(most, v); v > 0 {
				least = min(least, v)
			}
		}
	}
	return most, least
}

// addSensitivity adds the scores at the fewest bits. Their scale is logarithmic, because they span
// orders of magnitude.
func (h *Heat) addSensitivity(unit string) {
	score := func(c *HeatCell) float64 { return *c.Score }
	most, least := h.most(score)
	factor, decimals, label := thousandths(most)
	text := func(v float64) string { return fmt.Sprintf("%.*f", decimals, v/factor) }
	if unit == "" {
		unit = "score"
	}
	q := Quantity{
		Name:    "Sensitivity",
		Caption: fmt.Sprintf("Estimated loss with only this module at %d bits, in %s. Logarithmic colors.", h.Fewest, strings.TrimSpace(label+" "+unit)),
		Low:     text(min(least, most)), High: text(most),
	}
	h.add(q, func(c *HeatCell) HeatValue {
		v, step := score(c), 0
		if v > 0 && most > least {
			step = heatStep(math.Log(v/least), math.Log(most/least))
		}
		return HeatValue{text(v), step}
	})
}

// addSize adds the stored size, with the parts that it has.
func (h *Heat) addSize(parts string) {
	bytes := func(c *HeatCell) float64 { return float64(c.Bytes) }
	most, _ := h.most(bytes)
	unit, name := 1.0, "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if most/unit >= 1024 {
			unit, name = unit*1024, next
		}
	}
	h.add(Quantity{
		Name: "Size", Caption: fmt.Sprintf("Stored size in %s: %s.", name, parts),
		Low: "0", High: three(most/unit) + " " + name,
	}, func(c *HeatCell) HeatValue { return HeatValue{three(bytes(c) / unit), heatStep(bytes(c), most)} })
}

func (h *Heat) addError() {
	value := func(c *HeatCell) float64 { return c.RelError }
	most, _ := h.most(value)
	h.add(Quantity{
		Name: "Error", Caption: "Relative error of the weights in %: ‖Ŵ − W‖ / ‖W‖, Frobenius norm.",
		Low: "0", High: three(100*most) + " %",
	}, func(c *HeatCell) HeatValue { return HeatValue{three(100 * value(c)), heatStep(value(c), most)} })
}

// Lines returns the figures of the cell for its tooltip; fewest are the bits of Score.
func (c HeatCell) Lines(fewest int) []string {
	size := fmt.Sprintf("%d bits, %s", c.Bits, units.Size(c.Bytes))
	if c.Form.OnGrid() {
		size = fmt.Sprintf("%s, %s", c.Form, size)
	} else if c.Form == artifact.Plain {
		size = "not quantized: " + size
	}
	lines := []string{size, fmt.Sprintf("relative error %.3g %%", 100*c.RelError)}
	if c.Score != nil {
		lines = append(lines, fmt.Sprintf("sensitivity at %d bits: %.3g", fewest, *c.Score))
	}
	if c.Loss != nil && c.Bits != fewest {
		lines = append(lines, fmt.Sprintf("at %d bits: %.3g", c.Bits, *c.Loss))
	}
	return lines
}

// heatStep returns the color of v on a linear scale from 0 to most.
func heatStep(v, most float64) int {
	if !(most > 0) || !(v > 0) {
		return 0
	}
	return min(int(v/most*heatSteps), heatSteps-1)
}

// bitsStep returns the color of a width, the same in every report. Common widths differ the most.
func bitsStep(bits int) int {
	return []int{0, 0, 1, 3, 5, 5, 6, 6, 6}[min(bits, 8)]
}

// heatClasses returns the classes of all colors, for the key.
func heatClasses() (out []string) {
	for i := range heatSteps {
		out = append(out, fmt.Sprintf("h%d", i))
	}
	return out
}

// three formats a number that is not negative with three significant digits, without an exponent.
func three(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
