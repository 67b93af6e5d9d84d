package kernel

import "math"

// scaleCols is the number of columns of a row of X with a common factor in arithmetic I16.
const scaleCols = 128

// tableMax is the largest magnitude of a table entry in arithmetic I16. With 14 bits for weights,
// and activations limited by sumLimit, the rounding errors of both are about equal.
const tableMax = 1<<13 - 1

// sumLimit returns the upper bound of the sum of magnitudes of a block of scaled activations for which
// every sum of products with weights of at most the given magnitude fits in 32 bits. It allows for the
// half unit that rounding may add to each activation.
func sumLimit(weight int) float32 {
	return float32(math.MaxInt32)/float32(weight)*(1-1.0/1024) - scaleCols/2
}

// int16Form is the data of a matrix, in addition to its stored weights, for arithmetic I16.
//
// Two columns of a row form a pair, one dword: a panel is widened to [pair][16][2] int16, the
// layout of VPDPWSSD. The storage of indices determines the pairs: in a dword of 4-bit indices,
// columns n and n+4, which are 16 bits apart; of 2-bit indices, n and n+8. int8 columns form
// pairs with their neighbours. Activations are permuted into the same order.
type int16Form struct {
	table  []int16     // [panel][tables][32], rounded; entries repeat because kernels do not mask the bits above an index
	tables int         // vectors of 32 entries in a panel
	factor []float32   // [panel·16], multiplies the finished sum of a row
	limit  float32     // upper bound of the sum of magnitudes of a block of scaled activations
	order  *[16]uint16 // source column of each of 16 positions
	block  int         // columns in one load of stored weights
}

// The source column of each of 16 positions, by the distance between the columns of a pair.
var (
	orderAdjacent = pairOrder(1)
	orderLUT4     = pairOrder(4)
	orderLUT2     = pairOrder(8)
)

// pairOrder returns the order in which columns the given distance apart form pairs.
func pairOrder(apart int) *[16]uint16 {
	var o [16]uint16
	for i := range o {
		pair := i / 2
		o[i] = uint16(pair/apart*2*apart + pair%apart + i%2*apart)
	}
	return &o
}

// int16 returns the form of w, or nil if it has none: for dense floating-point weights, indices of
// more than 4 bits, tables that change within a panel, and weights that are not finite.
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
		var largest float64
		for _, v := range table {
			largest = math.Max(largest, math.Abs(float64(v)))
		}
		if math.IsInf(largest, 0) || math.IsNaN(largest) {
			return nil
		}
		scale := 0.0
		if largest > 0 {
			scale = tableMax / largest
		}
		for i := range f.tables * 32 {
			// The second table of 2-bit indices is looked up with the second field.
			entry := i % 32 >> (i / 32 * 2) & 15
			f.table[p*f.tables*32+i] = int16(math.RoundToEven(float64(table[entry]) * scale))
		}
		for r := range PanelRows {
			if largest > 0 {
				f.factor[p*PanelRows+r] = float32(largest / tableMax * float64(w.scale[p*PanelRows+r]))
			}
		}
	}
	return f
}

// pairs returns the number of pairs of the first kc columns of a block.
func (f *int16Form) pairs(kc int) int { return (kc + f.block - 1) / f.block * (f.block / 2) }

// roundedCols returns the number of elements of a rounded row of X, padding included.
func roundedCols(cols int) int { return (cols + 15) &^ 15 }

// scaleBlocks returns the number of factors of a row of X.
func scaleBlocks(cols int) int { return (cols + scaleCols - 1) / scaleCols }

// round writes a row of X as integers in the order of the form, [roundedCols], and the factors of
// its blocks.
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
