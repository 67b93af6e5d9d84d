package palettize

import (
	"fmt"
	"math"
)

// MaxBits is the widest index: a look-up table of 256 entries.
const MaxBits = 8

// Defaults of [Options].
const (
	DefaultBits      = 4  // bits per index: look-up tables of 16 entries
	DefaultGroupRows = 16 // rows that share a look-up table
)

// Matrix is a palettized weight matrix W [Rows, Cols] in its stored form. Weight (r, c) is
// LUT[r/GroupRows · 2^Bits + i] · RowScale[r], where i is the Bits-wide number at bit c·Bits
// of row r of Indices, counted from the least significant bit of the row's first byte.
//
// A Matrix read from a file must pass [Matrix.Validate] before its weights are used.
type Matrix struct {
	Rows, Cols int
	Bits       int      // width of an index, 1 to 8
	GroupRows  int      // rows that share a table, at least 1; may exceed Rows
	Indices    []byte   // [Rows, RowBytes()]; unused bits at the end of a row are zero
	LUT        []uint16 // [Groups(), 1<<Bits], fp16 bits
	RowScale   []uint16 // [Rows], fp16 bits, not negative; 0 for a row of zeros; nil without row scales
}

// Groups returns the number of look-up tables, ceil(Rows/GroupRows); 0 if Rows or
// GroupRows is not positive.
func (m *Matrix) Groups() int {
	if m.Rows <= 0 || m.GroupRows <= 0 {
		return 0
	}
	return (m.Rows-1)/m.GroupRows + 1
}

// RowBytes returns the length of a packed row in bytes, ceil(Cols·Bits/8); 0 if Cols or
// Bits is out of range.
func (m *Matrix) RowBytes() int {
	if m.Cols <= 0 || m.Bits <= 0 || m.Bits > MaxBits {
		return 0
	}
	return rowBytes(m.Cols, m.Bits)
}

// rowBytes is ceil(cols·bits/8) without computing cols·bits, which may overflow.
func rowBytes(cols, bits int) int {
	return cols/8*bits + (cols%8*bits+7)/8
}

// Validate checks what reading the weights requires: sizes, the range of Bits, unused bits
// that are zero, finite table entries, and finite row scales that are not negative. It
// returns nil for every Matrix from [Palettize] and [Compensate].
func (m *Matrix) Validate() error {
	switch {
	case m.Rows <= 0 || m.Cols <= 0:
		return fmt.Errorf("a matrix of %d rows and %d columns", m.Rows, m.Cols)
	case m.Bits < 1 || m.Bits > MaxBits:
		return fmt.Errorf("indices of %d bits, not 1 to %d", m.Bits, MaxBits)
	case m.GroupRows < 1:
		return fmt.Errorf("groups of %d rows", m.GroupRows)
	}
	rb := m.RowBytes()
	if m.Rows > math.MaxInt/rb || m.Rows > math.MaxInt/m.Cols {
		return fmt.Errorf("a matrix of %d rows and %d columns is too large", m.Rows, m.Cols)
	}
	if len(m.Indices) != m.Rows*rb {
		return fmt.Errorf("%d bytes of indices; %d rows of %d columns at %d bits have %d", len(m.Indices), m.Rows, m.Cols, m.Bits, m.Rows*rb)
	}
	// Groups() ≤ Rows ≤ len(Indices), so this product cannot overflow either.
	if want := m.Groups() << m.Bits; len(m.LUT) != want {
		return fmt.Errorf("%d look-up table entries; %d groups at %d bits have %d", len(m.LUT), m.Groups(), m.Bits, want)
	}
	if m.RowScale != nil && len(m.RowScale) != m.Rows {
		return fmt.Errorf("%d row scales for %d rows", len(m.RowScale), m.Rows)
	}
	for i, h := range m.LUT {
		if !finiteF16(h) {
			return fmt.Errorf("entry %d of look-up table %d is %v", i&(1<<m.Bits-1), i>>m.Bits, f16Value(h))
		}
	}
	for r, h := range m.RowScale {
		if !finiteF16(h) || f16Value(h) < 0 {
			return fmt.Errorf("the scale of row %d is %v, not finite and 0 or more", r, f16Value(h))
		}
	}
	if used := m.Cols % 8 * m.Bits % 8; used != 0 {
		for r := range m.Rows {
			if last := m.Indices[(r+1)*rb-1]; last>>used != 0 {
				return fmt.Errorf("row %d of the indices has set bits after its last column", r)
			}
		}
	}
	return nil
}

// StoredBits returns the size of the stored form in bits: indices with the padding of each
// row, look-up tables, and row scales if there are any.
func (m *Matrix) StoredBits() int64 {
	bits := 8*int64(m.Rows)*int64(m.RowBytes()) + 16*int64(m.Groups())<<m.Bits
	if m.RowScale != nil {
		bits += 16 * int64(m.Rows)
	}
	return bits
}

// DequantizeRows writes the weights of rows r0 to r1-1 to dst [r1-r0, Cols]. The product of
// table entry and row scale is exact in float32. It panics if dst has another length or the
// rows are out of range.
func (m *Matrix) DequantizeRows(dst []float32, r0, r1 int) {
	if r0 < 0 || r1 < r0 || r1 > m.Rows || len(dst) != (r1-r0)*m.Cols {
		panic(fmt.Sprintf("palettize: rows %d to %d of %d, %d columns, into %d values", r0, r1, m.Rows, m.Cols, len(dst)))
	}
	var table [1 << MaxBits]float32
	k, rb, group := 1<<m.Bits, m.RowBytes(), -1
	for r := r0; r < r1; r++ {
		if g := r / m.GroupRows; g != group || m.RowScale != nil {
			scale := float32(1)
			if m.RowScale != nil {
				scale = float32(f16Value(m.RowScale[r]))
			}
			for i, h := range m.LUT[g*k : (g+1)*k] {
				table[i] = float32(f16Value(h)) * scale
			}
			group = g
		}
		lookupRow(dst[(r-r0)*m.Cols:(r-r0+1)*m.Cols], m.Indices[r*rb:(r+1)*rb], m.Bits, &table)
	}
}
