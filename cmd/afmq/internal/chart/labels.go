package chart

import (
	"slices"
	"unicode/utf8"
)

const (
	labelHeight = 13.0 // pixels, of a line of 12 pixels
	runeWidth   = 6.8  // pixels, of an average character of that size
	markRadius  = 6.0  // pixels around the center of a mark that labels avoid
	maxLabel    = 40   // characters; longer labels are cut
)

// box is a rectangle in pixels; y grows downward.
type box struct{ left, top, right, bottom float64 }

func (b box) overlaps(o box) bool {
	return b.left < o.right && o.left < b.right && b.top < o.bottom && o.top < b.bottom
}

func (b box) within(o box) bool {
	return b.left >= o.left && b.right <= o.right && b.top >= o.top && b.bottom <= o.bottom
}

// crosses reports whether a segment from a to b passes through the box (Liang and Barsky's
// clipping).
func (b box) crosses(from, to [2]float64) bool {
	t0, t1 := 0.0, 1.0
	for axis, side := range [2][2]float64{{b.left, b.right}, {b.top, b.bottom}} {
		at, d := from[axis], to[axis]-from[axis]
		if d == 0 {
			if at < side[0] || at > side[1] {
				return false
			}
			continue
		}
		near, far := (side[0]-at)/d, (side[1]-at)/d
		if near > far {
			near, far = far, near
		}
		t0, t1 = max(t0, near), min(t1, far)
	}
	return t0 <= t1
}

// obstacles is what labels avoid.
type obstacles struct {
	plot  box
	boxes []box           // marks and labels
	lines [][2][2]float64 // segments; a label covers one if it has no other place
}

// placeLabels puts each label beside, above or below its mark, where it covers no mark, no other
// label and, if possible, no line. A label that has no such place is omitted, unless its mark has
// a ring.
func placeLabels(series []drawnSeries, plot box) {
	taken := &obstacles{plot: plot}
	var marks []*drawnMark
	for i := range series {
		for j := 1; j < len(series[i].line); j++ {
			taken.lines = append(taken.lines, [2][2]float64{series[i].line[j-1], series[i].line[j]})
		}
		for j := range series[i].Marks {
			m := &series[i].Marks[j]
			taken.boxes = append(taken.boxes, box{m.x - markRadius, m.y - markRadius, m.x + markRadius, m.y + markRadius})
			marks = append(marks, m)
		}
	}
	for _, ringed := range []bool{true, false} {
		for _, m := range marks {
			if m.label == "" || (m.Ring != "") != ringed {
				continue
			}
			if at, ok := m.place(taken); ok || ringed {
				m.Label = &drawnText{X: px(at.x), TextY: px(at.y), Anchor: at.anchor, Text: at.text}
				taken.boxes = append(taken.boxes, at.box)
			}
		}
	}
}

// placed is a possible place of a label: the point and the anchor of its text, and what it covers.
type placed struct {
	x, y         float64
	anchor, text string
	box          box
}

// place returns the first place that is free, or one that is not. Labels in the right half of the
// plot prefer the left side of their marks.
func (m *drawnMark) place(taken *obstacles) (placed, bool) {
	text := m.label
	if utf8.RuneCountInString(text) > maxLabel {
		text = string([]rune(text)[:maxLabel-1]) + "…"
	}
	width := runeWidth * float64(utf8.RuneCountInString(text))
	gap := 9.0
	if m.Ring != "" {
		gap = 13
	}
	side := func(anchor string, x, y float64) placed {
		left := map[string]float64{"start": x, "middle": x - width/2, "end": x - width}[anchor]
		return placed{x, y, anchor, text, box{left, y - labelHeight + 3, left + width, y + 3}}
	}
	right, left := side("start", m.x+gap, m.y+4), side("end", m.x-gap, m.y+4)
	sides := []placed{right, left}
	if m.x > (taken.plot.left+taken.plot.right)/2 {
		sides = []placed{left, right}
	}
	sides = append(sides, side("middle", m.x, m.y-gap-1), side("middle", m.x, m.y+gap+10),
		side("start", m.x+gap/2, m.y-gap), side("end", m.x-gap/2, m.y-gap), side("start", m.x+gap/2, m.y+gap+9), side("end", m.x-gap/2, m.y+gap+9))
	for _, cover := range []bool{false, true} {
		for _, s := range sides {
			if taken.free(s.box, cover) {
				return s, true
			}
		}
	}
	return sides[0], false
}

// free reports whether a label can have the place b, which may cover lines or not.
func (o *obstacles) free(b box, cover bool) bool {
	if !b.within(o.plot) || slices.ContainsFunc(o.boxes, b.overlaps) {
		return false
	}
	return cover || !slices.ContainsFunc(o.lines, func(l [2][2]float64) bool { return b.crosses(l[0], l[1]) })
}
