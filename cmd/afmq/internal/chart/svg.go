package chart

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

//go:embed chart.html
var page string

var drawing = template.Must(template.New("chart").Parse(page))

// size has the dimensions of one drawing, in pixels of its view box.
type size struct {
	Class         string
	Width, Height float64
	left, right   float64 // margins
	top, bottom   float64
	xTicks        int
	yTicks        int
}

var sizes = []size{
	{Class: "wide", Width: 800, Height: 320, left: 58, right: 14, top: 28, bottom: 44, xTicks: 8, yTicks: 5},
	{Class: "narrow", Width: 340, Height: 260, left: 52, right: 10, top: 28, bottom: 44, xTicks: 4, yTicks: 5},
}

// small is the drawing of a small chart.
var small = size{Class: "small", Width: 340, Height: 220, left: 40, right: 12, top: 30, bottom: 44, xTicks: 6, yTicks: 4}

// HTML returns the drawings and their legend as the content of a figure.
func (c *Chart) HTML() (template.HTML, error) {
	v := view{Chart: c}
	drawings := sizes
	if c.Small {
		drawings = []size{small}
	}
	for _, s := range drawings {
		d, err := c.draw(s)
		if err != nil {
			return "", err
		}
		v.Drawings = append(v.Drawings, d)
	}
	for _, s := range c.Series {
		if len(c.Series) > 1 && s.Name != "" {
			v.Legend = append(v.Legend, key{s, mark(s.Color, 14, 7, 3.5)})
		}
	}
	var b bytes.Buffer
	err := drawing.Execute(&b, v)
	return template.HTML(b.String()), err
}

type view struct {
	*Chart
	Drawings []drawn
	Legend   []key
}

// key is an entry of the legend.
type key struct {
	Series
	Mark string
}

// drawn is a chart in pixels, with all numbers formatted.
type drawn struct {
	size
	Box            string
	X0, X1, Y0, Y1 string
	LabelY, XMid   string
	XTicks, YTicks []drawnTick
	Rules          []drawnText
	Series         []drawnSeries
	Stems          []drawnStem
}

type drawnTick struct{ At, Text string }

type drawnText struct{ X, Y, TextY, Anchor, Text string }

// drawnStem has the line, and the bar of its range, whose Top is empty for none.
type drawnStem struct {
	Path, Note       string
	Top, From, Width string
}

type drawnSeries struct {
	Series
	Path  string
	Marks []drawnMark
	line  [][2]float64 // corners of the path, x and y
}

type drawnMark struct {
	Path, Note string
	Ring       string // radius of the ring; empty for none
	CX, CY     string
	Label      *drawnText // set by placeLabels
	x, y       float64    // of its center
	label      string
}

func (c *Chart) draw(z size) (drawn, error) {
	var xs, ys []float64
	for _, s := range c.Series {
		for _, p := range s.Points {
			if c.drawable(p) {
				xs, ys = append(xs, p.X), append(ys, p.Y)
			}
		}
	}
	if len(xs)+len(c.Stems) == 0 {
		return drawn{}, fmt.Errorf("chart %q: no point can be drawn", c.Title)
	}
	for _, r := range c.Rules {
		ys = append(ys, r.Y)
	}
	for _, t := range c.Stems {
		xs, ys = append(xs, t.X, t.Low, t.High), append(ys, t.Y)
	}
	x := newScale(c.X, xs, z.left, z.Width-z.right, z.xTicks)
	y := newScale(c.Y, ys, z.Height-z.bottom, z.top, z.yTicks)
	d := drawn{
		size: z, Box: fmt.Sprintf("0 0 %g %g", z.Width, z.Height),
		X0: px(x.from), X1: px(x.to), Y0: px(y.from), Y1: px(y.to),
		LabelY: px(z.Height - 6), XMid: px((x.from + x.to) / 2),
	}
	for _, t := range x.ticks {
		d.XTicks = append(d.XTicks, drawnTick{px(x.at(t.At)), t.Label})
	}
	for _, t := range y.ticks {
		d.YTicks = append(d.YTicks, drawnTick{px(y.at(t.At)), t.Label})
	}
	for _, r := range c.Rules {
		if y.drawable(r.Y) {
			at := y.at(r.Y)
			d.Rules = append(d.Rules, drawnText{X: px(x.to), Y: px(at), TextY: px(at - 5), Anchor: "end", Text: r.Label})
		}
	}
	for _, s := range c.Series {
		d.Series = append(d.Series, c.drawSeries(s, x, y))
	}
	for i, t := range c.Stems {
		d.Stems = append(d.Stems, drawStem(t, i, len(c.Stems), x, y))
	}
	placeLabels(d.Series, box{x.from, y.to, x.to, y.from})
	return d, nil
}

// drawable reports whether a point has a position on both axes.
func (c *Chart) drawable(p Point) bool {
	x, y := scale{log: c.X.Log}, scale{log: c.Y.Log}
	return x.drawable(p.X) && y.drawable(p.Y)
}

// Omitted returns the number of points that have no position on the axes.
func (c *Chart) Omitted() int {
	n := 0
	for _, s := range c.Series {
		for _, p := range s.Points {
			if !p.Bare && !c.drawable(p) {
				n++
			}
		}
	}
	return n
}

func (c *Chart) drawSeries(s Series, x, y scale) drawnSeries {
	d := drawnSeries{Series: s}
	var path strings.Builder
	var start, end string // of the line
	for _, p := range s.Points {
		if !c.drawable(p) {
			continue
		}
		px0, py0 := x.at(p.X), y.at(p.Y)
		if s.Line || s.Area {
			op := "L"
			if path.Len() == 0 {
				op = "M"
				start = px(px0)
			}
			end = px(px0)
			fmt.Fprintf(&path, "%s%s %s", op, px(px0), px(py0))
			d.line = append(d.line, [2]float64{px0, py0})
		}
		if !s.Marks || p.Bare {
			continue
		}
		m := drawnMark{Path: mark(s.Color, px0, py0, 3.8), Note: p.Note, CX: px(px0), CY: px(py0), x: px0, y: py0, label: p.Label}
		if p.Ring {
			m.Ring = "8"
		}
		d.Marks = append(d.Marks, m)
	}
	d.Path = path.String()
	if s.Area && path.Len() > 0 {
		base := px(y.at(0))
		d.Path += fmt.Sprintf("L%s %sL%s %sz", end, base, start, base)
	}
	return d
}

// manyStems is the number of stems above which a drawing omits their ranges.
const manyStems = 32

// drawStem draws stem i of n. Its range is a bar above the plot; neighbours alternate between two
// rows. Many stems without a height are short lines above the plot.
func drawStem(t Stem, i, n int, x, y scale) drawnStem {
	d := drawnStem{Note: t.Note}
	row := y.to - 10 + float64(i%2)*5
	bottom, top := y.at(0), row
	if !math.IsNaN(t.Y) {
		top = y.at(t.Y)
	} else if n > manyStems {
		bottom, top = y.to-1, y.to-10
	}
	if n <= manyStems {
		d.Top, d.From, d.Width = px(row), px(x.at(t.Low)-0.5), px(x.at(t.High)-x.at(t.Low)+1)
	}
	d.Path = fmt.Sprintf("M%s %sV%s", px(x.at(t.X)), px(bottom), px(top))
	return d
}

// mark returns the outline of a series' mark around a point. The shapes are a disc, a square, a
// diamond and a triangle, and repeat after four colors.
func mark(color int, x, y, r float64) string {
	switch color % 4 {
	case 1:
		r *= 0.9
		return fmt.Sprintf("M%s %sh%sv%sh%sz", px(x-r), px(y-r), px(2*r), px(2*r), px(-2*r))
	case 2:
		r *= 1.3
		return fmt.Sprintf("M%s %sl%s %sl%s %sl%s %sz", px(x), px(y-r), px(r), px(r), px(-r), px(r), px(-r), px(-r))
	case 3:
		r *= 1.2
		return fmt.Sprintf("M%s %sl%s %sh%sz", px(x), px(y-r), px(r), px(1.8*r), px(-2*r))
	}
	return fmt.Sprintf("M%s %sa%[3]s %[3]s 0 1 0 %[4]s 0a%[3]s %[3]s 0 1 0 %[5]s 0z", px(x-r), px(y), px(r), px(2*r), px(-2*r))
}

// px formats a coordinate, rounded to a tenth of a pixel.
func px(v float64) string {
	v = math.Round(v*10) / 10
	return strconv.FormatFloat(v+0, 'f', -1, 64)
}
