package kernel

// Conversion of operands to bfloat16. A part is one bfloat16; a sum of two parts has 16 significant
// bits.

// roundToBF16 rounds x to bfloat16 in place.
func roundToBF16(lv isa, x []float32) {
	n := vectorLen(len(x))
	roundBF16(lv, x[:n])
	roundBF16Go(x[n:])
}

// parts returns the bfloat16 nearest to v, and the one nearest to the remainder.
func parts(v float32) (hi, lo uint16) {
	hi = floatToBfloat(v)
	return hi, floatToBfloat(v - bfloatToFloat(hi))
}

// tileRows and tileCols are the numbers of rows and columns of X in one step of a product on AMX
// tiles: two tiles of 16 rows with 32 bfloat16 each.
const (
	tileRows = 32
	tileCols = 32
	tileStep = tileRows * tileCols // elements
)

// amxForm is the data of a matrix, in addition to its stored weights, for products on AMX tiles.
type amxForm struct {
	hi, lo []uint16 // [panel][tables][32] parts of tables; nil if weights are widened to float32 first
	tables int
	parts  int               // 1 if every low part is zero
	order  *[tileCols]uint16 // source column c of each of 32 positions, as 2c+1
}

// The source columns of the 32 positions of a step, derived from those of 16 columns. The kernel
// selects 16-bit words: the upper half of float32 c is word 2c+1.
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

// amx returns the form of w.
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
		entry := i % 32 >> (table * 2) & 15 // as in newInt16Form
		f.hi[i], f.lo[i] = parts(w.table[panel*PanelRows+entry])
	}
	return f
}
