package kernel

import (
	"encoding/binary"
	"fmt"
)

// PackLUT packs a palettized matrix from its stored form: indices
// [rows, ⌈cols·bits/8⌉] packed LSB first in each row, lut [⌈rows/groupRows⌉, 2^bits]
// and rowScale [rows] as bits of half precision; a nil rowScale means factors
// of 1. bits is 1 to 8.
//
// If every panel of 16 rows has one table (groupRows is a multiple of 16, or there is a single
// group), indices stay packed: 3- and 4-bit indices in 4 bits, 1- and 2-bit indices in 2 bits.
// Wider indices, and those of other groups, take one byte each.
func PackLUT(rows, cols, bits, groupRows int, indices []byte, lut, rowScale []uint16) *Matrix {
	const name = "PackLUT"
	if bits < 1 || bits > 8 || groupRows < 1 {
		panic(fmt.Sprintf("kernel: %s: %d bits in groups of %d rows", name, bits, groupRows))
	}
	p := newMatrix(name, rows, cols, formatLUT8)
	rowBytes := (cols*bits + 7) / 8
	groups := (rows + groupRows - 1) / groupRows
	mustHave(name, "indices", len(indices), rows*rowBytes)
	mustHave(name, "lut", len(lut), groups<<bits)

	scale := make([]float32, rows)
	for r := range scale {
		scale[r] = 1
	}
	if rowScale != nil {
		mustHave(name, "rowScale", len(rowScale), rows)
		for r, s := range rowScale {
			scale[r] = halfToFloat(s)
		}
	}
	p.setScale(scale)
	p.scaled = rowScale != nil

	if cols == 0 {
		return p // there are no indices
	}
	oneTable := groupRows%PanelRows == 0 || groups <= 1
	switch {
	case oneTable && bits <= 4:
		field := 4
		p.format = formatLUT4
		if bits <= 2 {
			field, p.format = 2, formatLUT2
		}
		p.packDwords(indices, rowBytes, bits, field)
		p.table = make([]float32, p.panels()*PanelRows)
		for panel := range p.panels() {
			t := lut[panel*PanelRows/groupRows<<bits:][:1<<bits]
			for i := range 16 { // repeated, because kernels do not mask the bits above an index
				p.table[panel*16+i] = halfToFloat(t[i&(len(t)-1)])
			}
		}
	default:
		p.packBytes(indices, rowBytes, bits, groupRows)
		p.table = make([]float32, len(lut))
		for i, v := range lut {
			p.table[i] = halfToFloat(v)
		}
	}
	return p
}

// packDwords stores indices of the given width as fields of 2 or 4 bits, in dwords of one row each.
// If the widths are equal, a dword of the panel is four bytes of the row.
func (w *Matrix) packDwords(indices []byte, rowBytes, bits, field int) {
	perDword := 32 / field
	blocks := (w.cols + perDword - 1) / perDword
	w.dwords = make([]uint32, w.panels()*blocks*PanelRows)
	var tail [4]byte
	for r := range w.rows {
		row := indices[r*rowBytes : (r+1)*rowBytes]
		dst := w.dwords[r/PanelRows*blocks*PanelRows+r%PanelRows:]
		for b := range blocks {
			if bits != field {
				var v uint32
				for c := b * perDword; c < min((b+1)*perDword, w.cols); c++ {
					v |= uint32(indexAt(row, c, bits)) << (c % perDword * field)
				}
				dst[b*PanelRows] = v
				continue
			}
			src := row[b*4:]
			if len(src) < 4 {
				tail = [4]byte{}
				copy(tail[:], src)
				src = tail[:]
			}
			dst[b*PanelRows] = binary.LittleEndian.Uint32(src)
		}
	}
}

// packBytes stores indices one byte each, and the position of each row's table.
func (w *Matrix) packBytes(indices []byte, rowBytes, bits, groupRows int) {
	w.u8 = make([]uint8, w.panels()*PanelRows*w.cols)
	w.base = make([]int32, w.panels()*PanelRows)
	for r := range w.rows {
		row := indices[r*rowBytes : (r+1)*rowBytes]
		dst := w.u8[r/PanelRows*PanelRows*w.cols+r%PanelRows:]
		for c := range w.cols {
			dst[c*PanelRows] = indexAt(row, c, bits)
		}
		w.base[r] = int32(r / groupRows << bits)
	}
}

// indexAt returns field c of a row of LSB-first fields.
func indexAt(row []byte, c, bits int) uint8 {
	at := c * bits
	v := uint(row[at/8])
	if at%8+bits > 8 {
		v |= uint(row[at/8+1]) << 8
	}
	return uint8(v >> (at % 8) & (1<<bits - 1))
}
