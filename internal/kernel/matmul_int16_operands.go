package kernel

import (
	"math"
)

// scaleCols is the columns of a row of X that share one factor in 16-bit arithmetic.
const scaleCols = 128

// tableMax is the largest magnitude of a table entry in 16-bit arithmetic. With 14 bits for
// the weights and what sumLimit leaves for the activations of a block both lose about
// the same.
const tableMax = 1<<13 - 1

// sumLimit returns the most that the magnitudes of a block of activations may sum to, so that
// no sum of products with weights of at most the given magnitude leaves 32 bits.
// Rounding adds half a unit to each.
func sumLimit(most int) float32 {
	return float32(math.MaxInt32)/float32(most)*(1-1.0/1024) - scaleCols/2
}

// int16Form is what a matrix needs beside its indices for products in 16-bit integers.
//
// Two columns of a row make a pair, one dword: a panel widens to [pair][16][2] int16, as
// VPDPWSSD wants it. Which columns pair up follows from how indices are stored: in a dword of
// 4-bit indices columns n and n+4, as these lie 16 bits apart, with 2 bits n and n+8.
// int8 columns pair up with their neighbours. Activations are brought into the same order.
type int16Form struct {
	table  []int16     // [panel][tables][32], rounded; entries repeat, as kernels do not mask the bits above
	tables int         // vectors of 32 entries for each panel
	factor []float32   // [panel·16] multiplies the finished sum of a row
	limit  float32     // most that the rounded magnitudes of a block of activations may sum to
	order  *[16]uint16 // of 16 columns, which stands at each place
	block  int         // columns in one load of indices
}

// Where each of 16 columns comes from, by how many columns lie between two of a pair.
var (
	orderAdjacent = pairOrder(1)
	orderLUT4     = pairOrder(4)
	orderLUT2     = pairOrder(8)
)

func pairOrder(apart int) *[16]uint16 {
	var o [16]uint16
	for i := range o {
		pair := i / 2
		o[i] = uint16(pair/apart*2*apart + pair%apart + i%2*apart)
	}
	return &o
}

// int16 returns the form of w, or nil where it has none: dense weights, indices of more
// than 4 bits, groups of rows that panels do not hold, and weights that are not finite.
func (w *Matrix) int16() *int16Form {
	w.int16Once.Do(func() { w.int16Form = w.newInt16Form() })
	return w.int16Form
}

func (w *Matrix) newInt16Form() *int16Form {
	f := &int16Form{factor: make([]float32, w.panels()*PanelRows)}
	switch w.format {
	case formatInt8:
		f.order, f.limit, f.block = orderAdjacent, sumLimit(128), 2
		copy(f.factor, w.scale)
		return f
	case formatLUT4:
		f.order, f.tables, f.block = orderLUT4, 1, 8
	case formatLUT2:
		f.order, f.tables, f.block = orderLUT2, 2, 16
	default:
		return nil
	}
	f.limit = sumLimit(tableMax)
	f.table = make([]int16, w.panels()*f.tables*32)
	for p := range w.panels() {
		table := w.table[p*PanelRows:][:PanelRows]
		var most float64
		for _, v := range table {
			most = math.Max(most, math.Abs(float64(v)))
		}
		if math.IsInf(most, 0) || math.IsNaN(most) {
			return nil
		}
		scale := 0.0
		if most > 0 {
			scale = tableMax / most
		}
		for i := range f.tables * 32 {
			// The second table of 2-bit indices looks at the field above the lowest.
			entry := i % 32 >> (i / 32 * 2) & 15
			f.table[p*f.tables*32+i] = int16(math.RoundToEven(float64(table[entry]) * scale))
		}
		for r := range PanelRows {
			if most > 0 {
				f.factor[p*PanelRows+r] = float32(most / tableMax * float64(w.scale[p*PanelRows+r]))
			}
		}
	}
	return f
}

// pairs returns how many pairs the first kc columns of a block take.
func (f *int16Form) pairs(kc int) int { return (kc + f.block - 1) / f.block * (f.block / 2) }

// roundedCols returns the elements of a row of X in 16-bit integers.
func roundedCols(cols int) int { return (cols + 15) &^ 15 }

// scaleBlocks returns the factors of a row of X.
func scaleBlocks(cols int) int { return (cols + scaleCols - 1) / scaleCols }

// round writes a row of X as integers in the form's order, [roundedCols], and the
// factors of its blocks.
func (f *int16Form) round(lv isa, dst []int16, scale, x []float32) {
	whole := len(x) / scaleCols * scaleCols
	if whole > 0 {
		quantizeI16(lv, dst[:whole], scale, x[:whole], f.limit, f.order)
	}
	if rest := len(x) - whole; rest > 0 {
		var last [scaleCols]float32
		copy(last[:], x[whole:])
		n := roundedCols(rest)
		quantizeI16(lv, dst[whole:whole+n], scale[whole/scaleCols:], last[:n], f.limit, f.order)
	}
}

// fusedI16 reports whether a kernel of the level multiplies w in its stored form. Such kernels
// read int8 columns in pairs.
func (w *Matrix) fusedI16(l isa) bool {
	return fusedKernelsI16(l, w.format) != nil && (w.format != formatInt8 || w.cols%2 == 0)
}
