package kernel

// The conversions take lengths that are multiples of 16.

func widenF16(l isa, dst []float32, src []uint16) {
	if len(src) == 0 {
		return
	}
	_ = dst[len(src)-1]
	switch l {
	case isaAVX512:
		widenF16AVX512(&dst[0], &src[0], len(src))
	case isaAVX2:
		widenF16AVX2(&dst[0], &src[0], len(src))
	default:
		widenF16Go(dst, src)
	}
}

func widenBF16(l isa, dst []float32, src []uint16) {
	if len(src) == 0 {
		return
	}
	_ = dst[len(src)-1]
	switch l {
	case isaAVX512:
		widenBF16AVX512(&dst[0], &src[0], len(src))
	case isaAVX2:
		widenBF16AVX2(&dst[0], &src[0], len(src))
	default:
		widenBF16Go(dst, src)
	}
}

func narrowF16(l isa, dst []uint16, src []float32) {
	if len(src) == 0 {
		return
	}
	_ = dst[len(src)-1]
	switch l {
	case isaAVX512:
		narrowF16AVX512(&dst[0], &src[0], len(src))
	case isaAVX2:
		narrowF16AVX2(&dst[0], &src[0], len(src))
	default:
		narrowF16Go(dst, src)
	}
}

func narrowBF16(l isa, dst []uint16, src []float32) {
	if len(src) == 0 {
		return
	}
	_ = dst[len(src)-1]
	switch l {
	case isaAVX512:
		narrowBF16AVX512(&dst[0], &src[0], len(src))
	case isaAVX2:
		narrowBF16AVX2(&dst[0], &src[0], len(src))
	default:
		narrowBF16Go(dst, src)
	}
}

func widenInt8(l isa, dst []float32, src []int8, scale []float32) {
	if len(src) == 0 {
		return
	}
	_ = dst[len(src)-1]
	switch l {
	case isaAVX512:
		widenInt8AVX512(&dst[0], &src[0], &scale[0], len(src))
	case isaAVX2:
		widenInt8AVX2(&dst[0], &src[0], &scale[0], len(src))
	default:
		widenInt8Go(dst, src, scale)
	}
}

// widenLUT takes whole blocks of 32/field columns.
func widenLUT(l isa, field int, dst []float32, src []uint32, table, scale []float32) {
	if len(src) == 0 {
		return
	}
	_, _, _ = dst[len(src)*32/field-1], table[PanelRows-1], scale[PanelRows-1]
	blocks := len(src) / PanelRows
	switch {
	case l == isaAVX512 && field == 4:
		widenLUT4AVX512(&dst[0], &src[0], &table[0], &scale[0], blocks)
	case l == isaAVX512:
		widenLUT2AVX512(&dst[0], &src[0], &table[0], &scale[0], blocks)
	case l == isaAVX2 && field == 4:
		widenLUT4AVX2(&dst[0], &src[0], &table[0], &scale[0], blocks)
	case l == isaAVX2:
		widenLUT2AVX2(&dst[0], &src[0], &table[0], &scale[0], blocks)
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
	switch l {
	case isaAVX512:
		widenLUT8AVX512(&dst[0], &src[0], &table[0], &base[0], &scale[0], cols)
	case isaAVX2:
		widenLUT8AVX2(&dst[0], &src[0], &table[0], &base[0], &scale[0], cols)
	default:
		widenLUT8Go(dst, src, table, base, scale)
	}
}
