package chart

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Labels of random points stay in the plot and cover no mark and no other label.
func TestLabelsHaveRoom(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	plot := box{50, 20, 350, 220}
	placedLabels, all := 0, 0
	for range 200 {
		series := make([]drawnSeries, 1+rng.IntN(3))
		for i := range series {
			for range 1 + rng.IntN(5) {
				m := drawnMark{x: 50 + 300*rng.Float64(), y: 20 + 200*rng.Float64(), label: fmt.Sprintf("label %d", rng.IntN(1e6))}
				series[i].Marks = append(series[i].Marks, m)
				series[i].line = append(series[i].line, [2]float64{m.x, m.y})
				all++
			}
		}
		placeLabels(series, plot)
		var boxes []box
		for _, s := range series {
			for _, m := range s.Marks {
				boxes = append(boxes, box{m.x - 3, m.y - 3, m.x + 3, m.y + 3})
			}
		}
		marks := len(boxes)
		for _, s := range series {
			for _, m := range s.Marks {
				if m.Label == nil {
					continue
				}
				placedLabels++
				b := textBox(t, m.Label)
				if !b.within(plot) {
					t.Errorf("a label at %+v leaves the plot", b)
				}
				for i, other := range boxes {
					if b.overlaps(other) {
						t.Errorf("a label at %+v covers %+v (mark: %v)", b, other, i < marks)
					}
				}
				boxes = append(boxes, b)
			}
		}
	}
	if placedLabels < all*3/4 {
		t.Errorf("only %d of %d labels have a place", placedLabels, all)
	}
}

// textBox measures a drawn label by its anchor, six pixels to a character.
func textBox(t *testing.T, l *drawnText) box {
	t.Helper()
	var x, y float64
	if _, err := fmt.Sscan(l.X, &x); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(l.TextY, &y); err != nil {
		t.Fatal(err)
	}
	width := 6 * float64(len(l.Text))
	switch l.Anchor {
	case "middle":
		x -= width / 2
	case "end":
		x -= width
	}
	return box{x, y - 9, x + width, y + 2}
}

// The label of a ringed mark is always there; a label prefers a place without a line.
func TestLabelPlaces(t *testing.T) {
	ringed := []drawnSeries{{Marks: []drawnMark{{x: 55, y: 25, label: "much too long for this small plot", Ring: "8"}, {x: 60, y: 30, label: "no room"}}}}
	placeLabels(ringed, box{50, 20, 100, 40})
	if ringed[0].Marks[0].Label == nil || ringed[0].Marks[1].Label != nil {
		t.Errorf("the labels are %+v", ringed[0].Marks)
	}
	line := []drawnSeries{{Marks: []drawnMark{{x: 100, y: 100, label: "here"}}, line: [][2]float64{{100, 100}, {300, 100}}}}
	placeLabels(line, box{50, 20, 350, 220})
	if l := line[0].Marks[0].Label; l == nil || l.Anchor != "end" {
		t.Errorf("the label is %+v, on the line that goes right", l)
	}
}

func TestSegmentCrossesBox(t *testing.T) {
	b := box{10, 10, 20, 20}
	for _, c := range []struct {
		from, to [2]float64
		want     bool
	}{
		{[2]float64{0, 15}, [2]float64{30, 15}, true},
		{[2]float64{0, 0}, [2]float64{30, 30}, true},
		{[2]float64{12, 12}, [2]float64{13, 13}, true},
		{[2]float64{0, 0}, [2]float64{30, 5}, false},
		{[2]float64{0, 25}, [2]float64{30, 25}, false},
		{[2]float64{5, 0}, [2]float64{5, 30}, false},
		{[2]float64{0, 15}, [2]float64{9, 15}, false},
		{[2]float64{0, 18}, [2]float64{8, 30}, false},
	} {
		if b.crosses(c.from, c.to) != c.want || b.crosses(c.to, c.from) != c.want {
			t.Errorf("%v to %v: expected %v", c.from, c.to, c.want)
		}
	}
}
