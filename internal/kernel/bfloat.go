package kernel

// Conversions to bfloat16 for products that use it. A part is one bfloat16; two parts sum
// to a float32 of 16 significant bits.

// roundToBF16 rounds x to bfloat16 in place.
func roundToBF16(lv isa, x []float32) {
	n := whole(len(x))
	roundBF16(lv, x[:n])
	roundBF16Go(x[n:])
}

func roundBF16Go(x []float32) {
	for i, v := range x {
		x[i] = bfloatToFloat(floatToBfloat(v))
	}
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

// narrowRowGo writes a row of X, 32 columns a step, as bfloat16 in the given order, to
// places tileStep apart; with lo, also the small parts there.
func narrowRowGo(hi, lo []uint16, x []float32, order *[tileCols]uint16) {
	for s := 0; s*tileCols < len(x); s++ {
		for i, at := range order {
			h, l := parts(x[s*tileCols+int(at)/2])
			hi[s*tileStep+i] = h
			if lo != nil {
				lo[s*tileStep+i] = l
			}
		}
	}
}

// narrowPanelGo writes columns [k][16] as pairs [k/2][16][2] of bfloat16; with lo, also the
// small parts.
func narrowPanelGo(hi, lo []uint16, src []float32) {
	for i, v := range src {
		k, j := i/PanelRows, i%PanelRows
		at := k/2*2*PanelRows + 2*j + k%2
		h, l := parts(v)
		hi[at] = h
		if lo != nil {
			lo[at] = l
		}
	}
}

// tileForm is how a matrix becomes pairs of bfloat16.
type tileForm struct {
	hi, lo []uint16 // [panel][tables][32] tables; nil where weights are widened to float32 first
	tables int
	parts  int               // 1 if every small part is zero
	order  *[tileCols]uint16 // of a step's columns: twice the column, plus one
}

// The order of a step's 32 columns by that of 16. The kernel takes the upper half, an odd
// word, of a float32.
var (
	tileNext = tileOrder(orderNext)
	tileLUT4 = tileOrder(orderLUT4)
	tileLUT2 = tileOrder(orderLUT2)
)

func tileOrder(order *[16]uint16) *[tileCols]uint16 {
	var o [tileCols]uint16
	for i := range o {
		o[i] = 2*(uint16(i)&^15+order[i%16]) + 1
	}
	return &o
}

// tiles returns the form of w.
func (w *Matrix) tiles() *tileForm {
	w.onceTiles.Do(func() { w.formTiles = w.newTiles() })
	return w.formTiles
}

func (w *Matrix) newTiles() *tileForm {
	f := &tileForm{order: tileNext, parts: 2}
	switch w.format {
	case formatInt8, formatBF16:
		f.parts = 1 // at most 8 significant bits
		return f
	case formatLUT4:
		f.order, f.tables = tileLUT4, 1
	case formatLUT2:
		f.order, f.tables = tileLUT2, 2
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
