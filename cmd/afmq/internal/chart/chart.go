// Package chart draws line and scatter plots as inline SVG, for HTML pages that are read on
// phones and desktops, in light and dark mode, and in print.
//
// Each plot is drawn twice, wide and narrow, so that its text has the same size on every
// screen; the style sheet ([CSS]) shows the drawing that fits. Colors are CSS variables, which
// follow the reader's light or dark preference. Series differ in color and in the shape of their
// marks. All text is escaped by html/template, because names of files and models are untrusted.
//
// Equal charts give equal bytes.
package chart

import (
	_ "embed"
	"html/template"
)

// CSS is the style sheet of charts. It uses the variables --ink, --muted, --hair and --paper of
// the page, and the classes c0 to c6 define the colors of series as --c.
//
//go:embed chart.css
var CSS template.CSS

// Chart is one plot.
type Chart struct {
	Title  string // accessible name, for screen readers
	X, Y   Axis
	Series []Series
	Rules  []Rule
}

// Axis is the horizontal or vertical axis.
type Axis struct {
	Label string
	Log   bool   // logarithmic; points that are not positive are omitted
	Zero  bool   // a linear axis includes 0
	Ticks []Tick // nil to choose round numbers
}

// Tick is a labeled position on an axis.
type Tick struct {
	At    float64
	Label string
}

// Series is a sequence of points with one name and one style.
type Series struct {
	Name   string
	Color  int  // index of the color, from 0
	Line   bool // a line connects the points in order
	Dashed bool // the line is dashed
	Marks  bool // each point has a mark, whose shape follows Color
	Hollow bool // marks are outlines
	Points []Point
}

// Point is one value.
type Point struct {
	X, Y  float64
	Note  string // tooltip of the mark
	Label string // text next to the mark
	Ring  bool   // highlights the mark with a circle
	Bare  bool   // no mark: a corner of the line
}

// Rule is a horizontal reference line.
type Rule struct {
	Y     float64
	Label string
}
