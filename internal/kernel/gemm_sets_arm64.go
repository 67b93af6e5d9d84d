package kernel

// gemms returns the microkernels of a level.
func gemms(l isa) *gemmSet {
	if l == isaNEON {
		return neonGemms
	}
	return genericGemms
}

var neonGemms = &gemmSet{
	mr: 6,
	funcs: [maxStrip + 1][nWide]gemmFunc{
		1: {gemmNEON_1x1, gemmNEON_1x2, gemmNEON_1x4},
		2: {gemmNEON_2x1, gemmNEON_2x2},
		3: {gemmNEON_3x1, gemmNEON_3x2},
		4: {gemmNEON_4x1},
		5: {gemmNEON_5x1},
		6: {gemmNEON_6x1},
	},
}

// transposeBlocks does the columns that make whole blocks and returns how many.
func transposeBlocks(l isa, dst []float32, step int, src []float32, ld, rows, n int) int {
	n &^= 3
	if l != isaNEON || n == 0 {
		return 0
	}
	_, _ = dst[n*step+PanelRows-1], src[(rows-1)*ld+n-1]
	for r := 0; r < rows; r += 8 { // more than 8 only where step is 16
		f := transposeNEON8
		if rows-r <= 4 {
			f = transposeNEON4
		}
		f(&dst[r], step, &src[r*ld], ld, min(rows-r, 8), n/4)
	}
	return n
}

// gather copies 16 elements from each of n rows of src, which are ld apart, to places in
// dst that are step apart, in ascending order: with a step below 16 each row ends what the
// one before wrote.
func gather(l isa, dst []float32, step int, src []float32, ld, n int) {
	if n == 0 {
		return
	}
	_, _ = dst[(n-1)*step+PanelRows-1], src[(n-1)*ld+PanelRows-1]
	if l == isaNEON {
		gatherNEON(&dst[0], step, &src[0], ld, n)
		return
	}
	gatherGo(dst, step, src, ld, n)
}
