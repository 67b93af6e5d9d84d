// Package chart draws plots of lines and points as inline SVG for a page of HTML that
// must read well on a phone, on a desk, in the dark and on paper.
//
// A plot is drawn twice, wide and narrow, so that its text keeps its size; the page's
// style sheet ([CSS]) shows the one that fits. Colours are CSS variables, so that the
// reader's preference for light or dark decides. Every series differs from the others by
// the shape of its marks too, not by colour alone. All text goes through html/template:
// names of files and models are hostile.
//
// Equal charts give equal bytes.
package chart

import (
	_ "embed"
	"html/template"
)

// CSS is what a page needs to show charts. It expects the variables --ink, --muted,
// --hair and --paper, and defines the colours of series, c0 to c6, as --c.
//
//go:embed chart.css
var CSS template.CSS

// Chart is one plot.
type Chart struct {
	Title  string // what it shows, read aloud in place of the picture
	X, Y   Axis
	Series []Series
	Rules  []Rule
}

// Axis is one of the two scales.
type Axis struct {
	Label string
	Log   bool   // logarithmic; points that are not positive are left out
	Zero  bool   // a linear scale begins at 0
	Ticks []Tick // nil for round numbers
}

// Tick is a marked place on an axis.
type Tick struct {
	At    float64
	Label string
}

// Series is points that belong together.
type Series struct {
	Name   string
	Color  int  // which of the colours, from 0
	Line   bool // the points are joined in their order
	Dashed bool // that line is
	Marks  bool // each point has a mark, whose shape follows Color
	Hollow bool // marks are outlines
	Points []Point
}

// Point is one value.
type Point struct {
	X, Y  float64
	Note  string // said when the mark is pointed at
	Label string // printed beside the mark
	Ring  bool   // drawn around the mark: this is the one that matters
}

// Rule is a horizontal line of reference.
type Rule struct {
	Y     float64
	Label string
}
