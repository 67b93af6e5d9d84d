package kernel

// The conversions take lengths that are multiples of 16.

func widenF16(l isa, dst []float32, src []uint16) {
	if len(src) == 0 {
		return
	}
	_ = dst[len(src)-1]
	if l == isaNEON {
		widenF16NEON(&dst[0], &src[0], len(src))
	} else {
		widenF16Go(dst, src)
	}
}

func widenBF16(l isa, dst []float32, src []uint16) {
	if len(src) == 0 {
		return
	}
	_ = dst[len(src)-1]
	if l == isaNEON {
		widenBF16NEON(&dst[0], &src[0], len(src))
	} else {
		widenBF16Go(dst, src)
	}
}

func narrowF16(l isa, dst []uint16, src []float32) {
	if len(src) == 0 {
		return
	}
	_ = dst[len(src)-1]
	if l == isaNEON {
		narrowF16NEON(&dst[0], &src[0], len(src))
	} else {
		narrowF16Go(dst, src)
	}
}

func narrowBF16(l isa, dst []uint16, src []float32) {
	if len(src) == 0 {
		return
	}
	_ = dst[len(src)-1]
	if l == isaNEON {
		narrowBF16NEON(&dst[0], &src[0], len(src))
	} else {
		narrowBF16Go(dst, src)
	}
}

func widenInt8(l isa, dst []float32, src []int8, scale []float32) {
	if len(src) == 0 {
		return
	}
	_ = dst[len(src)-1]
	if l == isaNEON {
		widenInt8NEON(&dst[0], &src[0], &scale[0], len(src))
	} else {
		widenInt8Go(dst, src, scale)
	}
}

// widenLUT takes whole blocks of 32/field columns. The values of the table are those of
// half precision, as PackLUT makes them: the kernels look up their two bytes.
func widenLUT(l isa, field int, dst []float32, src []uint32, table, scale []float32) {
	if len(src) == 0 {
		return
	}
	_, _, _ = dst[len(src)*32/field-1], table[PanelRows-1], scale[PanelRows-1]
	blocks := len(src) / PanelRows
	switch {
	case l == isaNEON && field == 4:
		widenLUT4NEON(&dst[0], &src[0], &table[0], &scale[0], blocks)
	case l == isaNEON:
		widenLUT2NEON(&dst[0], &src[0], &table[0], &scale[0], blocks)
	default:
		widenLUTGo(field, dst, src, table, scale)
	}
}

// widenLUT8 trusts base[r]+index to lie within table, as PackLUT made them.
func widenLUT8(l isa, dst []float32, src []uint8, table []float32, base []int32, scale []float32) {
	if len(src) == 0 {
		return
	}
	_, _, _ = dst[len(src)-1], base[PanelRows-1], scale[PanelRows-1]
	cols := len(src) / PanelRows
	if l == isaNEON {
		widenLUT8NEON(&dst[0], &src[0], &table[0], &base[0], &scale[0], cols)
	} else {
		widenLUT8Go(dst, src, table, base, scale)
	}
}
