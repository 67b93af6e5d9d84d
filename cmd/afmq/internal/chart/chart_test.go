package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func example() *Chart {
	return &Chart{
		Title: "divergence against size",
		X:     Axis{Label: "bits"}, Y: Axis{Label: "KL", Log: true},
		Series: []Series{
			{Name: "a", Line: true, Marks: true, Points: []Point{{X: 2, Y: 0.1, Note: "first"}, {X: 4, Y: 0.001, Label: "this", Ring: true}}},
			{Name: "b", Color: 1, Line: true, Dashed: true, Points: []Point{{X: 2, Y: 0.05}, {X: 3, Y: 0}, {X: 4, Y: 0.01}}},
		},
		Rules: []Rule{{Y: 0.2, Label: "without"}},
	}
}

// texts returns the text of every element of this name, and the values of an attribute.
func texts(t *testing.T, html, element, attribute string) (text, values []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader("<x>" + html + "</x>"))
	var open []string
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return text, values
		}
		if err != nil {
			t.Fatalf("the drawing is not well-formed: %v\n%s", err, html)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			open = append(open, tok.Name.Local)
			for _, a := range tok.Attr {
				if tok.Name.Local == element && a.Name.Local == attribute {
					values = append(values, a.Value)
				}
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if open[len(open)-1] == element {
				text = append(text, string(tok))
			}
		}
	}
}

func TestDrawsBothSizesWithoutThePointThatHasNoPlace(t *testing.T) {
	c := example()
	out, err := c.HTML()
	if err != nil {
		t.Fatal(err)
	}
	_, boxes := texts(t, string(out), "svg", "viewBox")
	if want := "0 0 800 320|0 0 340 260|0 0 28 14|0 0 28 14"; strings.Join(boxes, "|") != want {
		t.Errorf("view boxes are %v", boxes)
	}
	if c.Omitted() != 1 {
		t.Errorf("%d points are omitted from the logarithmic axis, want 1", c.Omitted())
	}
	titles, _ := texts(t, string(out), "title", "")
	if strings.Join(titles, "|") != "divergence against size|first|divergence against size|first" {
		t.Errorf("titles are %q", titles)
	}
	again, err := example().HTML()
	if err != nil || again != out {
		t.Errorf("equal charts differ: %v", err)
	}
}

// A scale is compared with a computation by hand: from 2 to 4 bits with a margin of 5 % at the
// upper end, over 728 pixels from 58.
func TestPointsStandWhereTheScaleSays(t *testing.T) {
	c := &Chart{Title: "t", Series: []Series{{Marks: true, Points: []Point{{X: 2, Y: 10, Ring: true}, {X: 4, Y: 30, Ring: true}}}}}
	out, err := c.HTML()
	if err != nil {
		t.Fatal(err)
	}
	_, x := texts(t, string(out), "circle", "cx")
	_, y := texts(t, string(out), "circle", "cy")
	if x[0] != "58" || x[1] != "751.3" { // 58, 58 + 728·(2/2.1)
		t.Errorf("the points are at %v", x)
	}
	if y[0] != "276" || y[1] != "39.8" { // 276, 276 − 248·(20/21)
		t.Errorf("the points are at height %v", y)
	}
}

// A small chart is compared with a computation by hand: x from 0 to 10 over 288 pixels from 40, y
// from 0 to 5.25 over 146 pixels from 176 up.
func TestSmallChartWithStems(t *testing.T) {
	c := &Chart{
		Title: "t", Small: true, X: Axis{From: 0, To: 10}, Y: Axis{Zero: true},
		Series: []Series{{Area: true, Points: []Point{{X: 0, Y: 5}, {X: 10, Y: 5}}}},
		Stems:  []Stem{{X: 5, Low: 4, High: 6, Y: math.NaN(), Note: "middle"}, {X: 7.5, Low: 7.5, High: 7.5, Y: 2.625}},
	}
	out, err := c.HTML()
	if err != nil {
		t.Fatal(err)
	}
	_, boxes := texts(t, string(out), "svg", "viewBox")
	_, paths := texts(t, string(out), "path", "d")
	_, x := texts(t, string(out), "rect", "x")
	_, width := texts(t, string(out), "rect", "width")
	_, y := texts(t, string(out), "rect", "y")
	got := strings.Join(boxes, "|") + " " + strings.Join(paths[len(paths)-5:], "|") + " " + strings.Join(x, "|") + " " + strings.Join(width, "|") + " " + strings.Join(y, "|")
	if want := "0 0 340 220 M40 37L328 37L328 176L40 176z|M184 176V20|M184 176V20|M256 176V103|M256 176V103 154.7|255.5 58.6|1 20|25"; got != want {
		t.Errorf("got      %s\nexpected %s", got, want)
	}
	// Too many to show their ranges: short lines above the plot.
	for len(c.Stems) <= manyStems {
		c.Stems = append(c.Stems, c.Stems[0])
	}
	if out, err = c.HTML(); err != nil || strings.Contains(string(out), "<rect") || !strings.Contains(string(out), "M184 29V20") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestHostileTextStaysText(t *testing.T) {
	evil := `"><script>alert(1)</script>` + "\u202e{{.}}"
	c := example()
	c.Title, c.X.Label, c.Series[0].Name, c.Series[0].Points[0].Note, c.Series[0].Points[1].Label = evil, evil, evil, evil, evil
	c.Rules[0].Label = evil
	c.X.Ticks = []Tick{{3, evil}}
	c.Stems = []Stem{{X: 3, Low: 3, High: 3, Y: 0.1, Note: evil}}
	out, err := c.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "<script") {
		t.Errorf("a name became an element:\n%s", out)
	}
	labels, _ := texts(t, string(out), "text", "")
	n := 0
	for _, l := range labels {
		if l == evil {
			n++
		}
	}
	if n != 8 { // tick, x label, rule and point, in both sizes
		t.Errorf("the unescaped text occurs %d times in %q", n, labels)
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		axis   Axis
		values []float64
		want   string
	}{
		{Axis{}, []float64{2, 4}, "2.0 2.5 3.0 3.5 4.0"},
		{Axis{Zero: true}, []float64{0.004, 0.0095}, "0.000 0.002 0.004 0.006 0.008"},
		{Axis{Log: true}, []float64{0.004, 0.2}, "0.005 0.01 0.02 0.05 0.1 0.2"},
		{Axis{Log: true}, []float64{0.03, 0.3}, "0.03 0.05 0.1 0.2 0.3"},
		{Axis{Log: true}, []float64{0.018, 0.031}, "0.020 0.025 0.030"},
		{Axis{Log: true}, []float64{1e-6, 1}, "1e-6 1e-5 0.0001 0.001 0.01 0.1 1"},
		{Axis{}, []float64{0, 4e6}, "0 1,000,000 2,000,000 3,000,000 4,000,000"},
		{Axis{}, []float64{3.5}, "2.5 3.0 3.5 4.0"},
		{Axis{Log: true}, []float64{7}, "3 5 10 20"},
		{Axis{}, []float64{-4, 4}, "-4 -2 0 2 4"},
		{Axis{}, []float64{2.1, 9}, "0 2 4 6 8"},      // 0 instead of a value near it
		{Axis{}, []float64{37, 41}, "37 38 39 40 41"}, // begins at a tick
		{Axis{Zero: true}, []float64{256, 40192}, "0 10,000 20,000 30,000 40,000"},
		{Axis{}, []float64{0.0997, 0.199}, "0.08 0.10 0.12 0.14 0.16 0.18 0.20"}, // little below the values
		{Axis{}, []float64{-0.3, -9}, "-10 -8 -6 -4 -2 0"},
	} {
		s := newScale(c.axis, c.values, 0, 100, 5)
		var got []string
		for _, tick := range s.ticks {
			got = append(got, tick.Label)
			if at := s.at(tick.At); at < 0 || at > 100 {
				t.Errorf("%v: tick %s is at %v", c.values, tick.Label, at)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v %v: ticks %v, expected %s", c.axis, c.values, got, c.want)
		}
	}
}

// An axis begins at its first tick or, if it has ticks of its own, a margin before the first value.
func TestLinearAxisBeginsAtATick(t *testing.T) {
	for _, values := range [][]float64{{2, 4}, {0.31, 0.9}, {123, 4567}, {-7, 3}, {1e-9, 1.1e-9}, {5}, {1e6, 1.2e6}, {-9, -0.3}} {
		s := newScale(Axis{}, values, 0, 100, 5)
		if at := s.at(s.ticks[0].At); math.Abs(at) > 1e-6 {
			t.Errorf("%v: the first tick %s is at %v", values, s.ticks[0].Label, at)
		}
	}
}

func TestLogarithmicWhereTheRangeAsksForIt(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   bool
	}{{[]float64{0.1, 1}, true}, {[]float64{0.2, 1}, false}, {[]float64{0, 1}, false}, {[]float64{-1, 100}, false}, {nil, false}} {
		var s Series
		for _, v := range c.values {
			s.Points = append(s.Points, Point{Y: v})
		}
		if got := NeedsLog([]Series{{}, s}); got != c.want {
			t.Errorf("%v: %v", c.values, got)
		}
	}
}

func TestNothingToDraw(t *testing.T) {
	for _, y := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		c := &Chart{Y: Axis{Log: true}, Series: []Series{{Points: []Point{{X: 1, Y: y}}}}}
		if _, err := c.HTML(); err == nil {
			t.Errorf("a chart of %v alone was drawn", y)
		}
	}
}
