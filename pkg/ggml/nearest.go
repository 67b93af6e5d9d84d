package ggml

import "math"

// levelsOf holds the level of every code of every type with codes.
var levelsOf = func() (levels [len(formats)][256]float32) {
	for t := range formats {
		for c := range formats[t].codes {
			if table := formats[t].table; table != nil {
				levels[t][c] = float32(table[c])
			} else {
				levels[t][c] = float32(c - formats[t].zero)
			}
		}
	}
	return levels
}()

// Level returns the level of a code, an integer: c minus a constant, or an entry of the table of
// IQ4_NL and IQ4_XS. Levels ascend with the codes.
func (t Type) Level(code uint8) float32 { return levelsOf[t][code] }

// Value returns the weight that a code stands for in a part of a block, with the bits that
// Dequantize computes.
func (t Type) Value(code uint8, s Step) float32 {
	return float32(s.Scale*levelsOf[t][code]) - s.Offset
}

// Nearest returns the code whose value is nearest to w in a part of a block, and that value. w
// and s must be finite. With a scale of zero all codes have the same value, and the code is that
// of the level nearest to zero.
func (t Type) Nearest(w float32, s Step) (code uint8, value float32) {
	f := t.format()
	x := 0.0
	if s.Scale != 0 {
		x = (float64(w) + float64(s.Offset)) / float64(s.Scale)
	}
	if f.table != nil {
		code = nearestIQ4(x)
	} else {
		code = nearestInteger(x+float64(f.zero), f.codes-1)
	}
	code = max(code, f.lowest)
	return code, t.Value(code, s)
}

// nearestInteger rounds x to an integer from 0 to most, half down.
func nearestInteger(x float64, most int) uint8 {
	switch {
	case !(x > 0.5):
		return 0
	case x >= float64(most):
		return uint8(most)
	}
	return uint8(math.Ceil(x - 0.5)) // without a branch, which would be mispredicted
}

// Boundaries between the levels of IQ4 are multiples of 1/2, so that the code of every interval
// of 1/2 is one entry of a table.
const (
	iq4First = -116 // the boundary between the lowest levels is -115.5
	iq4Last  = 102  // the boundary between the highest is 101
)

var iq4Codes = func() (codes [2 * (iq4Last - iq4First)]uint8) {
	for i := range codes {
		x := iq4First + float64(i)/2 + 0.25
		for c := range iq4[1:] {
			if x > (float64(iq4[c])+float64(iq4[c+1]))/2 {
				codes[i] = uint8(c + 1)
			}
		}
	}
	return codes
}()

// nearestIQ4 returns the code of the level nearest to x.
func nearestIQ4(x float64) uint8 {
	switch {
	case !(x > iq4First):
		return 0
	case x >= iq4Last:
		return 15
	}
	return iq4Codes[int(2*(x-iq4First))]
}
