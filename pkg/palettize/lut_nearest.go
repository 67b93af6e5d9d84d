package palettize

import (
	"math"
	"slices"
)

// levels holds the dequantized values of a row's indices, prepared for finding the nearest
// one. Cells of equal width narrow the search.
type levels struct {
	value [1 << MaxBits]float32 // [2^bits] by index
	palette
	inverse float64 // of the row's scale
	low     float64 // lower end of the cells
	perUnit float64
	cell    [levelCells]uint8 // entry of the palette at each cell's lower end
	table   []uint16          // the table of palette and cells
}

const levelCells = 256

// set prepares a table and the scale of a row.
func (l *levels) set(lut []uint16, scale float32) {
	for i, h := range lut {
		l.value[i] = float32(f16Value(h)) * scale
	}
	l.inverse = 0
	if scale > 0 {
		l.inverse = 1 / float64(scale)
	}
	if slices.Equal(lut, l.table) { // the rows of a group are consecutive
		return
	}
	l.table = append(l.table[:0], lut...)
	l.palette.set(lut)
	l.low = l.palette.value[0]
	l.perUnit = 0
	if width := l.palette.value[l.n-1] - l.low; width > 0 {
		l.perUnit = (levelCells - 1) / width
	}
	j := 0
	for i := range l.cell {
		if l.perUnit > 0 {
			for l.low+float64(i)/l.perUnit > l.above[j] {
				j++
			}
		}
		l.cell[i] = uint8(j)
	}
}

// nearest returns the index of the value nearest to v.
func (l *levels) nearest(v float32) uint8 {
	q := float64(v) * l.inverse
	at := min(max((q-l.low)*l.perUnit, 0), levelCells-1)
	if math.IsNaN(at) {
		return l.first[0]
	}
	j := l.cell[int(at)]
	for q > l.above[j] {
		j++
	}
	for j > 0 && q <= l.above[j-1] {
		j--
	}
	return l.first[j]
}
