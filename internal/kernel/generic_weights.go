package kernel

// The twins of the kernels that widen the stored weights of a panel to float32. Sources are
// [col][16]; scale holds the factors of the 16 rows.

func widenInt8Go(dst []float32, src []int8, scale []float32) {
	for i, q := range src {
		dst[i] = float32(q) * scale[i%PanelRows]
	}
}

// widenLUTGo reads dwords [block][16] of 2- or 4-bit fields. The fields of a dword are consecutive
// columns of one row.
func widenLUTGo(field int, dst []float32, src []uint32, table, scale []float32) {
	per := 32 / field
	for i, v := range src {
		r := i % PanelRows
		d := dst[(i-r)*per+r:]
		for c := range per {
			d[c*PanelRows] = table[v&(1<<field-1)] * scale[r]
			v >>= field
		}
	}
}

// widenLUT8Go reads one byte for each index; the table of row r starts at table[base[r]].
func widenLUT8Go(dst []float32, src []uint8, table []float32, base []int32, scale []float32) {
	for i, v := range src {
		r := i % PanelRows
		dst[i] = table[int(base[r])+int(v)] * scale[r]
	}
}

func widenF16Go(dst []float32, src []uint16) {
	for i, h := range src {
		dst[i] = halfToFloat(h)
	}
}

func widenBF16Go(dst []float32, src []uint16) {
	for i, b := range src {
		dst[i] = bfloatToFloat(b)
	}
}

func narrowF16Go(dst []uint16, src []float32) {
	for i, f := range src {
		dst[i] = floatToHalf(f)
	}
}

func narrowBF16Go(dst []uint16, src []float32) {
	for i, f := range src {
		dst[i] = floatToBfloat(f)
	}
}
