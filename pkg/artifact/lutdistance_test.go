package artifact

import (
	"math"
	"testing"

	"github.com/x448/float16"

	"afmq/pkg/palettize"
)

// Distances of tables by hand.
func TestLUTDistance(t *testing.T) {
	half := func(v ...float32) (out []uint16) {
		for _, x := range v {
			out = append(out, float16.Fromfloat32(x).Bits())
		}
		return out
	}
	a := &palettize.Matrix{Rows: 4, Cols: 1, Bits: 1, GroupRows: 2, LUT: half(-1, 1, 2, 2)}
	b := &palettize.Matrix{Rows: 4, Cols: 1, Bits: 1, GroupRows: 2, LUT: half(1, -1, 2, 4)} // the first is a's, in another order
	c := &palettize.Matrix{Rows: 4, Cols: 1, Bits: 2, GroupRows: 2, LUT: half(-1, -1, 1, 1, 1, 1, 2, 4)}
	wantNear(t, "a, a", *lutDistance(a, a), 0)
	wantNear(t, "a, b", *lutDistance(a, b), math.Sqrt(4.0/10))
	// Of group 2, a's 2, 2, 2, 2 against 1, 1, 2, 4: 1+1+0+4 over 2·(1+1)+4·4.
	wantNear(t, "a, c", *lutDistance(a, c), math.Sqrt(6.0/20))
	wantNear(t, "c, a", *lutDistance(c, a), math.Sqrt(6.0/(4+1+1+4+16)))
	b.GroupRows = 4
	if lutDistance(a, b) != nil {
		t.Error("tables of groups of another height were compared")
	}
	b.GroupRows, b.RowScale = 2, half(1, 1, 1, 1)
	if lutDistance(a, b) != nil {
		t.Error("tables with and without row scales were compared")
	}
	zero := &palettize.Matrix{Rows: 4, Cols: 1, Bits: 1, GroupRows: 2, LUT: half(0, 0, 0, 0)}
	if wantNear(t, "zero, zero", *lutDistance(zero, zero), 0); lutDistance(zero, a) != nil {
		t.Error("a distance relative to zero")
	}
}
func wantNear(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-9*max(1, math.Abs(want))) {
		t.Errorf("%s is %v; expected %v", what, got, want)
	}
}
