package kernel

var fusedAVX512 = fusedLevel{
	f16:  fusedSet{0: fusedF16AVX512_1, 2: fusedF16AVX512_4, 3: fusedF16AVX512_8},
	bf16: fusedSet{0: fusedBF16AVX512_1, 2: fusedBF16AVX512_4, 3: fusedBF16AVX512_8},
	int8: fusedSet{0: fusedInt8AVX512_1, 2: fusedInt8AVX512_4, 3: fusedInt8AVX512_8},
	lut4: fusedSet{0: fusedLUT4AVX512_1, 2: fusedLUT4AVX512_4, 3: fusedLUT4AVX512_8},
	lut2: fusedSet{0: fusedLUT2AVX512_1, 2: fusedLUT2AVX512_4},
}

var fusedAVX2 = fusedLevel{
	f16:  fusedSet{0: fusedF16AVX2_1, 2: fusedF16AVX2_4},
	bf16: fusedSet{0: fusedBF16AVX2_1, 2: fusedBF16AVX2_4},
	int8: fusedSet{0: fusedInt8AVX2_1, 2: fusedInt8AVX2_4},
	lut4: fusedSet{0: fusedLUT4AVX2_1, 1: fusedLUT4AVX2_2},
	lut2: fusedSet{0: fusedLUT2AVX2_1, 1: fusedLUT2AVX2_2},
}

// fusedKernels returns the kernels of a level that has some.
func fusedKernels(l isa) *fusedLevel {
	if l == isaAVX512 {
		return &fusedAVX512
	}
	return &fusedAVX2
}
