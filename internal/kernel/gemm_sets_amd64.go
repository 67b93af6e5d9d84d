package kernel

// gemms returns the microkernels of a level.
func gemms(l isa) *gemmSet {
	switch l {
	case isaAVX512:
		return avx512Gemms
	case isaAVX2:
		return avx2Gemms
	}
	return genericGemms
}

var avx512Gemms = &gemmSet{
	mr: 14,
	funcs: [maxStrip + 1][nWide]gemmFunc{
		1:  {gemmAVX512_1x1, gemmAVX512_1x2, gemmAVX512_1x4, gemmAVX512_1x8},
		2:  {gemmAVX512_2x1, gemmAVX512_2x2, gemmAVX512_2x4},
		3:  {gemmAVX512_3x1, gemmAVX512_3x2, gemmAVX512_3x4},
		4:  {gemmAVX512_4x1, gemmAVX512_4x2, gemmAVX512_4x4},
		5:  {gemmAVX512_5x1, gemmAVX512_5x2, gemmAVX512_5x4},
		6:  {gemmAVX512_6x1, gemmAVX512_6x2, gemmAVX512_6x4},
		7:  {gemmAVX512_7x1, gemmAVX512_7x2},
		8:  {gemmAVX512_8x1, gemmAVX512_8x2},
		9:  {gemmAVX512_9x1, gemmAVX512_9x2},
		10: {gemmAVX512_10x1, gemmAVX512_10x2},
		11: {gemmAVX512_11x1, gemmAVX512_11x2},
		12: {gemmAVX512_12x1, gemmAVX512_12x2},
		13: {gemmAVX512_13x1, gemmAVX512_13x2},
		14: {gemmAVX512_14x1, gemmAVX512_14x2},
	},
}

var avx2Gemms = &gemmSet{
	mr: 6,
	funcs: [maxStrip + 1][nWide]gemmFunc{
		1: {gemmAVX2_1x1, gemmAVX2_1x2, gemmAVX2_1x4},
		2: {gemmAVX2_2x1, gemmAVX2_2x2},
		3: {gemmAVX2_3x1},
		4: {gemmAVX2_4x1},
		5: {gemmAVX2_5x1},
		6: {gemmAVX2_6x1},
	},
}

// transposeBlocks does the columns that make whole blocks and returns how many.
func transposeBlocks(l isa, dst []float32, step int, src []float32, ld, rows, n int) int {
	switch {
	case l == isaAVX512 && n >= 16:
		n &^= 15
		_, _ = dst[n*step+PanelRows-1], src[(rows-1)*ld+n-1]
		transposeAVX512(&dst[0], step, &src[0], ld, rows, n/16)
		return n
	case l == isaAVX2 && n >= 8:
		n &^= 7
		_, _ = dst[n*step+PanelRows-1], src[(rows-1)*ld+n-1]
		transposeAVX2(&dst[0], step, &src[0], ld, min(rows, 8), n/8)
		if rows > 8 {
			transposeAVX2(&dst[8], step, &src[8*ld], ld, rows-8, n/8)
		}
		return n
	}
	return 0
}

// gather copies 16 elements from each of n rows of src, which are ld apart, to places in
// dst that are step apart, in ascending order: with a step below 16 each row ends what the
// one before wrote.
func gather(l isa, dst []float32, step int, src []float32, ld, n int) {
	if n == 0 {
		return
	}
	_, _ = dst[(n-1)*step+PanelRows-1], src[(n-1)*ld+PanelRows-1]
	switch l {
	case isaAVX512:
		gatherAVX512(&dst[0], step, &src[0], ld, n)
	case isaAVX2:
		gatherAVX2(&dst[0], step, &src[0], ld, n)
	default:
		gatherGo(dst, step, src, ld, n)
	}
}
