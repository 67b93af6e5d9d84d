package kernel

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// hasI16 reports whether the level has instructions for products of 16-bit integers.
func hasI16(l isa) bool { return l >= isaAVX512 && cpu.X86.HasAVX512VNNI }

func gemmsI16(l isa) *gemmI16Set {
	if hasI16(l) {
		return avx512I16
	}
	return genericI16
}

// hasFusedI16 reports whether a kernel of the level reads w as it is stored. Pairs of
// int8 columns are read together.
func hasFusedI16(l isa, w *Matrix) bool {
	return hasI16(l) && (w.format != formatInt8 || w.cols%2 == 0)
}

func quantizeI16(l isa, dst []int16, scale, x []float32, limit float32, order *[16]uint16) {
	if !hasI16(l) {
		quantizeI16Go(dst, scale, x, limit, order)
		return
	}
	_, _ = dst[len(x)-1], scale[(len(x)-1)/scaleCols]
	quantizeI16AVX512(&dst[0], &scale[0], &x[0], len(x), limit, &order[0])
}

func widenI16(l isa, f format, dst []int16, src unsafe.Pointer, table []int16, loads int) {
	if !hasI16(l) {
		widenI16Go(f, dst, src, table, loads)
		return
	}
	switch f {
	case formatLUT4:
		widenI16LUT4(&dst[0], (*byte)(src), &table[0], loads)
	case formatLUT2:
		widenI16LUT2(&dst[0], (*byte)(src), &table[0], loads)
	case formatInt8:
		widenI16Int8(&dst[0], (*byte)(src), nil, loads)
	}
}

// fusedI16Set holds a format's kernels by log2 of panels.
type fusedI16Set [nWide]fusedI16Func

var (
	fusedI16LUT4 = fusedI16Set{0: fusedI16LUT4_1, 2: fusedI16LUT4_4, 3: fusedI16LUT4_8}
	fusedI16LUT2 = fusedI16Set{0: fusedI16LUT2_1, 2: fusedI16LUT2_4, 3: fusedI16LUT2_8}
	fusedI16Int8 = fusedI16Set{0: fusedI16Int8_1, 2: fusedI16Int8_4, 3: fusedI16Int8_8}
)

func fusedI16Of(f format) *fusedI16Set {
	switch f {
	case formatLUT4:
		return &fusedI16LUT4
	case formatLUT2:
		return &fusedI16LUT2
	}
	return &fusedI16Int8
}

var avx512I16 = &gemmI16Set{
	mr: 14,
	funcs: [maxStrip + 1][nWide]gemmI16Func{
		1:  {gemmI16_1x1, gemmI16_1x2, gemmI16_1x4, gemmI16_1x8},
		2:  {gemmI16_2x1, gemmI16_2x2, gemmI16_2x4},
		3:  {gemmI16_3x1, gemmI16_3x2, gemmI16_3x4},
		4:  {gemmI16_4x1, gemmI16_4x2, gemmI16_4x4},
		5:  {gemmI16_5x1, gemmI16_5x2, gemmI16_5x4},
		6:  {gemmI16_6x1, gemmI16_6x2, gemmI16_6x4},
		7:  {gemmI16_7x1, gemmI16_7x2},
		8:  {gemmI16_8x1, gemmI16_8x2},
		9:  {gemmI16_9x1, gemmI16_9x2},
		10: {gemmI16_10x1, gemmI16_10x2},
		11: {gemmI16_11x1, gemmI16_11x2},
		12: {gemmI16_12x1, gemmI16_12x2},
		13: {gemmI16_13x1, gemmI16_13x2},
		14: {gemmI16_14x1, gemmI16_14x2},
	},
}
