package kernel

// Conversions to bfloat16 for products that use it. A part is one bfloat16; two parts sum
// to a float32 of 16 significant bits.

// roundToBF16 rounds x to bfloat16 in place.
func roundToBF16(lv isa, x []float32) {
	n := vectorLen(len(x))
	roundBF16(lv, x[:n])
	roundBF16Go(x[n:])
}

// parts returns the bfloat16 nearest to v and that nearest to what is left.
func parts(v float32) (hi, lo uint16) {
	hi = floatToBfloat(v)
	return hi, floatToBfloat(v - bfloatToFloat(hi))
}

// tileRows and tileCols are the rows of X and the columns that one step of a product on
// tiles takes: two tiles of 16 rows with 32 bfloat16 each.
const (
	tileRows = 32
	tileCols = 32
	tileStep = tileRows * tileCols // elements
)

// amxForm is how a matrix becomes pairs of bfloat16.
type amxForm struct {
	hi, lo []uint16 // [panel][tables][32] tables; nil where weights are widened to float32 first
	tables int
	parts  int               // 1 if every small part is zero
	order  *[tileCols]uint16 // of a step's columns: twice the column, plus one
}

// The order of a step's 32 columns by that of 16. The kernel takes the upper half, an odd
// word, of a float32.
var (
	amxAdjacent = amxOrder(orderAdjacent)
	amxLUT4     = amxOrder(orderLUT4)
	amxLUT2     = amxOrder(orderLUT2)
)

func amxOrder(order *[16]uint16) *[tileCols]uint16 {
	var o [tileCols]uint16
	for i := range o {
		o[i] = 2*(uint16(i)&^15+order[i%16]) + 1
	}
	return &o
}

// tiles returns the form of w.
func (w *Matrix) amx() *amxForm {
	w.amxOnce.Do(func() { w.amxForm = w.newAMXForm() })
	return w.amxForm
}

func (w *Matrix) newAMXForm() *amxForm {
	f := &amxForm{order: amxAdjacent, parts: 2}
	switch w.format {
	case formatInt8, formatBF16:
		f.parts = 1 // at most 8 significant bits
		return f
	case formatLUT4:
		f.order, f.tables = amxLUT4, 1
	case formatLUT2:
		f.order, f.tables = amxLUT2, 2
	default:
		return f
	}
	n := w.panels() * f.tables * 32
	f.hi, f.lo = make([]uint16, n), make([]uint16, n)
	for i := range n {
		panel, table := i/(32*f.tables), i/32%f.tables
		entry := i % 32 >> (table * 2) & 15 // as the tables of 16-bit integers
		f.hi[i], f.lo[i] = parts(w.table[panel*PanelRows+entry])
	}
	return f
}
