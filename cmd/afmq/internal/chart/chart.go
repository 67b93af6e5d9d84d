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
	Stems  []Stem
	// Small charts have one drawing, for half the width of a page or a phone.
	Small bool
}

// Axis is the horizontal or vertical axis.
type Axis struct {
	Label string
	Log   bool   // logarithmic; points that are not positive are omitted
	Zero  bool   // a linear axis includes 0
	Ticks []Tick // nil to choose round numbers
	// From and To are the exact range of a linear axis, which must include all values; equal to
	// choose it.
	From, To float64
}

// Tick is a labeled position on an axis.
type Tick struct {
	At    float64
	Label string
}

// Series is a sequence of points with one name and one style.
type Series struct {
	Name   string // in the legend; a series without a name is not in it
	Color  int    // index of the color, from 0
	Line   bool   // a line connects the points in order
	Dashed bool   // the line is dashed
	Faint  bool   // the line is thin and pale, for values behind a smoothed line
	Area   bool   // the area between the line and y = 0 is filled
	Marks  bool   // each point has a mark, whose shape follows Color
	Hollow bool   // marks are outlines
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

// Stem is a vertical line at X with the range from Low to High of its position.
type Stem struct {
	X, Low, High float64
	// Y is the height of the line, from 0; NaN for the height of the plot.
	Y    float64
	Note string // tooltip
}
