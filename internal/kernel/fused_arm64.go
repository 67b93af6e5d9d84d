package kernel

var fusedNEON = fusedLevel{
	f16:  fusedSet{0: fusedF16NEON_1, 2: fusedF16NEON_4},
	bf16: fusedSet{0: fusedBF16NEON_1, 2: fusedBF16NEON_4},
	int8: fusedSet{0: fusedInt8NEON_1, 2: fusedInt8NEON_4},
	lut4: fusedSet{0: fusedLUT4NEON_1, 1: fusedLUT4NEON_2},
	lut2: fusedSet{0: fusedLUT2NEON_1, 1: fusedLUT2NEON_2},
}

// fusedKernels returns the kernels of a level that has some.
func fusedKernels(isa) *fusedLevel { return &fusedNEON }
