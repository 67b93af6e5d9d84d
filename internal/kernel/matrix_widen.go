package kernel

import "unsafe"

// unscaled holds factors of 1 for the 16 rows of a panel.
var unscaled = [PanelRows]float32{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}

// widen returns columns [k0, k0+kc) of panels [p0, p0+np) as float32 panels, and the distance
// between two of them. The factors of rows are not applied. The weights are rounded to bfloat16 if
// round is set. float32 weights that are not rounded are returned in place, others in buf.
func (w *Matrix) widen(lv isa, buf *workerBuf, p0, np, k0, kc int, round bool) (wide []float32, stride int) {
	if w.format == formatF32 && !round {
		return w.f32[(p0*w.cols+k0)*PanelRows:], w.cols * PanelRows
	}
	const ps = blockK * PanelRows
	buf.wide = grow(buf.wide, jobPanels*ps+PanelRows)
	for p := range np {
		dst := buf.wide[p*ps : (p+1)*ps]
		w.widenPanel(lv, dst, p0+p, k0, kc, unscaled[:])
		if round {
			roundToBF16(lv, dst[:kc*PanelRows])
		}
	}
	return buf.wide, ps
}

// widenPanel writes columns [k0, k0+kc) of one panel as [k][16] float32, multiplied by the factors
// in scale, one for each row. k0 is a multiple of 16. Packed indices are widened in whole dwords,
// to the next multiple of 8 or 16 columns.
func (w *Matrix) widenPanel(lv isa, dst []float32, panel, k0, kc int, scale []float32) {
	at, n := (panel*w.cols+k0)*PanelRows, kc*PanelRows
	switch w.format {
	case formatF32:
		copy(dst[:n], w.f32[at:at+n])
	case formatF16:
		widenF16(lv, dst[:n], w.u16[at:at+n])
	case formatBF16:
		widenBF16(lv, dst[:n], w.u16[at:at+n])
	case formatInt8:
		widenInt8(lv, dst[:n], w.i8[at:at+n], scale)
	case formatLUT4, formatLUT2:
		field, per := w.field()
		blocks := (kc + per - 1) / per
		src := w.dwords[(panel*((w.cols+per-1)/per)+k0/per)*PanelRows:][:blocks*PanelRows]
		widenLUT(lv, field, dst[:blocks*per*PanelRows], src, w.table[panel*PanelRows:][:PanelRows], scale)
	case formatLUT8:
		widenLUT8(lv, dst[:n], w.u8[at:at+n], w.table, w.base[panel*PanelRows:][:PanelRows], scale)
	}
}

// widenTransposed returns rows [k0, k0+kc) of columns [c0, c0+cols) as float32 panels of 16 columns,
// [panel][k][16], blockK·16 apart, with the factors of rows applied. c0 and k0 are multiples of 16,
// cols is at most 16·jobPanels and kc at most blockK.
func (w *Matrix) widenTransposed(lv isa, buf *workerBuf, c0, cols, k0, kc int) []float32 {
	const ps = blockK * PanelRows
	buf.wide = grow(buf.wide, jobPanels*ps+PanelRows)
	if buf.panel == nil {
		buf.panel = make([]float32, (jobPanels*PanelRows+PanelRows)*PanelRows)
	}
	for r := 0; r < kc; r += PanelRows {
		panel := (k0 + r) / PanelRows
		src := buf.panel
		if w.format == formatF32 {
			src = w.f32[(panel*w.cols+c0)*PanelRows:][:cols*PanelRows]
		} else {
			scale := unscaled[:]
			if w.scaled {
				scale = w.scale[panel*PanelRows:][:PanelRows]
			}
			w.widenPanel(lv, src, panel, c0, cols, scale)
		}
		for c := 0; c < cols; c += PanelRows {
			transpose(lv, buf.wide[c*blockK+r*PanelRows:], PanelRows, src[c*PanelRows:], PanelRows, min(PanelRows, cols-c), PanelRows)
		}
	}
	return buf.wide
}

// field returns the width of a packed index in bits, and the number of indices in a dword.
func (w *Matrix) field() (bits, perDword int) {
	if w.format == formatLUT2 {
		return 2, 16
	}
	return 4, 8
}

// stored returns the address of the stored columns [k0, k0+kc) of panels [p0, p0+np), and the
// distance between two panels in bytes.
func (w *Matrix) stored(p0, np, k0, kc int) (b unsafe.Pointer, ps int) {
	first, last := (p0*w.cols+k0)*PanelRows, ((p0+np-1)*w.cols+k0+kc)*PanelRows-1
	switch w.format {
	case formatF16, formatBF16:
		_ = w.u16[last]
		return unsafe.Pointer(&w.u16[first]), w.cols * PanelRows * 2
	case formatInt8:
		_ = w.i8[last]
		return unsafe.Pointer(&w.i8[first]), w.cols * PanelRows
	}
	_, per := w.field()
	blocks := (w.cols + per - 1) / per
	_ = w.dwords[((p0+np-1)*blocks+(k0+kc+per-1)/per)*PanelRows-1]
	return unsafe.Pointer(&w.dwords[(p0*blocks+k0/per)*PanelRows]), blocks * PanelRows * 4
}
