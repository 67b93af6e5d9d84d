//go:build !amd64

package kernel

import "unsafe"

func hasI16(isa) bool { return false }

func gemmsI16(isa) *gemmI16Set { return genericI16 }

func hasFusedI16(isa, *Matrix) bool { return false }

func quantizeI16(_ isa, dst []int16, scale, x []float32, limit float32, order *[16]uint16) {
	quantizeI16Go(dst, scale, x, limit, order)
}

func widenI16(_ isa, f format, dst []int16, src unsafe.Pointer, table []int16, loads int) {
	widenI16Go(f, dst, src, table, loads)
}

// fusedI16Set has no kernels where hasFusedI16 is false.
type fusedI16Set [nWide]fusedI16Func

func fusedI16Of(format) *fusedI16Set { return nil }

func tileFuncOf(split bool, parts int) tileFunc { return genericTiles(split, parts) }

func narrowRow(_ isa, hi, lo []uint16, x []float32, order *[tileCols]uint16) {
	narrowRowGo(hi, lo, x, order)
}

func narrowPanel(_ isa, hi, lo []uint16, src []float32) { narrowPanelGo(hi, lo, src) }

func roundBF16(_ isa, x []float32) { roundBF16Go(x) }

func peakTiles(int) int { return 0 }
