package kernel

import (
	"fmt"
	"math"
	"slices"
	"sync"
)

// format is the storage format of a packed matrix.
type format uint8

const (
	formatF32  format = iota // f32 [panel][col][16]
	formatF16                // u16 [panel][col][16]
	formatBF16               // u16 [panel][col][16]
	formatInt8               // i8 [panel][col][16], scale
	formatLUT4               // dwords [panel][⌈cols/8⌉][16], dword r has 8 fields of 4 bits of row r; table [panel][16]
	formatLUT2               // dwords [panel][⌈cols/16⌉][16], dword r has 16 fields of 2 bits of row r; table [panel][16]
	formatLUT8               // u8 [panel][col][16]; table [group][2^bits], base

	formats // the number of formats
)

// Matrix is a weight matrix W [Rows, Cols] packed for Y = X·Wᵀ. The Pack functions make it. It is
// immutable and safe for concurrent use.
type Matrix struct {
	rows, cols int
	format     format

	f32    []float32
	u16    []uint16
	i8     []int8
	u8     []uint8
	dwords []uint32

	table  []float32 // look-up tables, widened
	base   []int32   // formatLUT8: [panel·16], index in table of the first entry of each row
	scale  []float32 // [panel·16], factor of each row; zero in padding rows
	scaled bool      // false if every row's factor is 1

	int16Once sync.Once
	int16Form *int16Form // for arithmetic I16, made on first use

	amxOnce sync.Once
	amxForm *amxForm // for products on AMX tiles, made on first use
}

// Rows returns the number of outputs, the rows of W.
func (w *Matrix) Rows() int { return w.rows }

// Cols returns the number of inputs, the columns of W.
func (w *Matrix) Cols() int { return w.cols }

// Bytes returns the size of the packed weights in memory, including tables and padding.
func (w *Matrix) Bytes() int64 {
	return 4*int64(len(w.f32)) + 2*int64(len(w.u16)) + int64(len(w.i8)) + int64(len(w.u8)) +
		4*int64(len(w.dwords)) + 4*int64(len(w.table)) + 4*int64(len(w.base)) + 4*int64(len(w.scale))
}

// Equal reports whether two matrices are packed from the same stored bits in the same form.
func (w *Matrix) Equal(v *Matrix) bool {
	if w.rows != v.rows || w.cols != v.cols || w.format != v.format || w.scaled != v.scaled {
		return false
	}
	same := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) } // 0 and -0 differ
	return slices.Equal(w.u16, v.u16) && slices.Equal(w.i8, v.i8) && slices.Equal(w.u8, v.u8) && slices.Equal(w.dwords, v.dwords) && slices.Equal(w.base, v.base) &&
		slices.EqualFunc(w.f32, v.f32, same) && slices.EqualFunc(w.table, v.table, same) && slices.EqualFunc(w.scale, v.scale, same)
}

func (w *Matrix) panels() int { return panelsOf(w.rows) }

func panelsOf(rows int) int { return (rows + PanelRows - 1) / PanelRows }

func newMatrix(name string, rows, cols int, f format) *Matrix {
	if rows < 0 || cols < 0 {
		panic(fmt.Sprintf("kernel: %s: shape [%d, %d]", name, rows, cols))
	}
	return &Matrix{rows: rows, cols: cols, format: f}
}

func mustHave(name, what string, got, want int) {
	if got != want {
		panic(fmt.Sprintf("kernel: %s: %s has %d elements, want %d", name, what, got, want))
	}
}

// packRows copies src, [rows, cols], into panels [panel][col][16]. Padding rows of the last panel are
// not written.
func packRows[T any](dst, src []T, rows, cols int) {
	for r := 0; r < rows; {
		panel := dst[r/PanelRows*PanelRows*cols:][:PanelRows*cols]
		lane := r % PanelRows
		if r+4 > rows {
			for c, v := range src[r*cols:][:cols] {
				panel[c*PanelRows+lane] = v
			}
			r++
			continue
		}
		// Copy four rows at once, because their elements are adjacent in the panel.
		r0 := src[r*cols:][:cols]
		r1, r2, r3 := src[(r+1)*cols:][:len(r0)], src[(r+2)*cols:][:len(r0)], src[(r+3)*cols:][:len(r0)]
		for c := range r0 {
			d := (*[4]T)(panel[c*PanelRows+lane:])
			d[0], d[1], d[2], d[3] = r0[c], r1[c], r2[c], r3[c]
		}
		r += 4
	}
}

// PackF32 packs w, [rows, cols] row-major, as float32.
func PackF32(rows, cols int, w []float32) *Matrix {
	p := newMatrix("PackF32", rows, cols, formatF32)
	mustHave("PackF32", "w", len(w), rows*cols)
	p.f32 = make([]float32, p.panels()*PanelRows*cols)
	packRows(p.f32, w, rows, cols)
	return p
}

// packPanels is the number of panels that PackF32Rows packs at a time.
const packPanels = 4

// PackF32Rows packs the matrix whose rows [r0, r1) fill computes into dst, [r1-r0, cols], a few at
// a time. It returns the first error of fill.
func PackF32Rows(rows, cols int, fill func(dst []float32, r0, r1 int) error) (*Matrix, error) {
	p := newMatrix("PackF32Rows", rows, cols, formatF32)
	p.f32 = make([]float32, p.panels()*PanelRows*cols)
	const per = packPanels * PanelRows
	w := make([]float32, min(per, rows)*cols)
	for r0 := 0; r0 < rows; r0 += per {
		r1 := min(r0+per, rows)
		part := w[:(r1-r0)*cols]
		if err := fill(part, r0, r1); err != nil {
			return nil, err
		}
		packRows(p.f32[r0*cols:], part, r1-r0, cols)
	}
	return p, nil
}

// PackF32 is the function [PackF32] in parallel.
func (p *Pool) PackF32(rows, cols int, w []float32) *Matrix {
	m := newMatrix("PackF32", rows, cols, formatF32)
	mustHave("PackF32", "w", len(w), rows*cols)
	m.f32 = make([]float32, m.panels()*PanelRows*cols)
	p.Run((m.panels()+packPanels-1)/packPanels, func(_, i int) {
		r0 := i * packPanels * PanelRows
		n := min(packPanels*PanelRows, rows-r0)
		packRows(m.f32[r0*cols:], w[r0*cols:(r0+n)*cols], n, cols)
	})
	return m
}

// PackF16 packs w, [rows, cols] row-major as bits of IEEE half precision, without widening it.
func PackF16(rows, cols int, w []uint16) *Matrix {
	p := newMatrix("PackF16", rows, cols, formatF16)
	mustHave("PackF16", "w", len(w), rows*cols)
	p.u16 = make([]uint16, p.panels()*PanelRows*cols)
	packRows(p.u16, w, rows, cols)
	return p
}

// PackBF16 packs w, [rows, cols] row-major as bits of bfloat16, without widening it.
func PackBF16(rows, cols int, w []uint16) *Matrix {
	p := newMatrix("PackBF16", rows, cols, formatBF16)
	mustHave("PackBF16", "w", len(w), rows*cols)
	p.u16 = make([]uint16, p.panels()*PanelRows*cols)
	packRows(p.u16, w, rows, cols)
	return p
}

// PackInt8 packs symmetric 8-bit weights q, [rows, cols] row-major, with one factor for each row: a
// weight is float32(q)·scale[row].
func PackInt8(rows, cols int, q []int8, scale []float32) *Matrix {
	p := newMatrix("PackInt8", rows, cols, formatInt8)
	mustHave("PackInt8", "q", len(q), rows*cols)
	mustHave("PackInt8", "scale", len(scale), rows)
	p.i8 = make([]int8, p.panels()*PanelRows*cols)
	packRows(p.i8, q, rows, cols)
	p.setScale(scale)
	return p
}

func (w *Matrix) setScale(scale []float32) {
	w.scale = make([]float32, w.panels()*PanelRows)
	copy(w.scale, scale)
	w.scaled = true
}

// Row writes the float32 values of row r of W to dst, which has Cols elements. It looks up an
// embedding in a matrix that is also the output head.
func (w *Matrix) Row(dst []float32, r int) {
	if r < 0 || r >= w.rows {
		panic(fmt.Sprintf("kernel: Row: row %d of a matrix with %d rows", r, w.rows))
	}
	mustHave("Row", "dst", len(dst), w.cols)
	if w.cols == 0 {
		return
	}
	panel, lane := r/PanelRows, r%PanelRows
	at := panel*PanelRows*w.cols + lane
	switch w.format {
	case formatF32:
		for c := range dst {
			dst[c] = w.f32[at+c*PanelRows]
		}
	case formatF16:
		for c := range dst {
			dst[c] = halfToFloat(w.u16[at+c*PanelRows])
		}
	case formatBF16:
		for c := range dst {
			dst[c] = bfloatToFloat(w.u16[at+c*PanelRows])
		}
	case formatInt8:
		for c := range dst {
			dst[c] = float32(w.i8[at+c*PanelRows]) * w.scale[r]
		}
	case formatLUT4, formatLUT2:
		field, per := w.field()
		dwords := w.dwords[panel*((w.cols+per-1)/per)*PanelRows+lane:]
		for c := range dst {
			v := dwords[c/per*PanelRows] >> (c % per * field) & (1<<field - 1)
			dst[c] = w.table[panel*PanelRows+int(v)] * w.scale[r]
		}
	case formatLUT8:
		for c := range dst {
			dst[c] = w.table[int(w.base[r])+int(w.u8[at+c*PanelRows])] * w.scale[r]
		}
	}
}
