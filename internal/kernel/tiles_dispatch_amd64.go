package kernel

import (
	"sync"

	"golang.org/x/sys/cpu"
)

// hasAMX reports whether the processor has bfloat16 tiles and the system lets this process
// use them.
var hasAMX = sync.OnceValue(func() bool {
	return cpu.X86.HasAMXTile && cpu.X86.HasAMXBF16 && allowTiles()
})

// tileFuncOf returns the kernel for X in two parts or one, and W in so many.
func tileFuncOf(split bool, parts int) tileFunc {
	switch {
	case !tilesInUse():
		return genericTiles(split, parts)
	case !split:
		return amxBF16
	case parts == 1:
		return amxSplit2
	}
	return amxSplit3
}

// narrowRow writes the parts of a row of X, whose length is a positive multiple of 32.
func narrowRow(l isa, hi, lo []uint16, x []float32, order *[tileCols]uint16) {
	steps := len(x) / tileCols
	_ = hi[(steps-1)*tileStep+tileCols-1]
	switch {
	case l != isaAVX512:
		narrowRowGo(hi, lo, x, order)
	case lo == nil:
		narrowRow1AVX512(&hi[0], nil, &x[0], steps, &order[0])
	default:
		_ = lo[(steps-1)*tileStep+tileCols-1]
		narrowRow2AVX512(&hi[0], &lo[0], &x[0], steps, &order[0])
	}
}

// narrowPanel writes the parts of widened columns, a positive even number of them.
func narrowPanel(l isa, hi, lo []uint16, src []float32) {
	_ = hi[len(src)-1]
	switch {
	case l != isaAVX512:
		narrowPanelGo(hi, lo, src)
	case lo == nil:
		narrowPanel1AVX512(&hi[0], nil, &src[0], len(src)/(2*PanelRows))
	default:
		_ = lo[len(src)-1]
		narrowPanel2AVX512(&hi[0], &lo[0], &src[0], len(src)/(2*PanelRows))
	}
}

func roundBF16(l isa, x []float32) {
	switch {
	case len(x) == 0:
	case l == isaAVX512:
		roundBF16AVX512(&x[0], len(x))
	case l == isaAVX2:
		roundBF16AVX2(&x[0], len(x))
	default:
		roundBF16Go(x)
	}
}

// peakTiles does n rounds of products on tiles and returns the operations that were.
func peakTiles(n int) int {
	if !tilesInUse() {
		return 0
	}
	var data [1024]uint16
	for i := range data { // signs, exponents and fractions as activations have them
		data[i] = uint16(i%3)<<14&0x8000 | 0x3e00 + uint16(i*37%0x200)
	}
	return peakAMX(&tileConfig[0], &data[0], n)
}
