package kernel

const (
	isaAVX2 isa = 1 + iota
	isaAVX512
	isaAMX // AVX-512 kernels, and tiles for the arithmetics that use bfloat16

	isaVectors = isaAVX512
)

var isaNames = [...]string{isaGeneric: "generic", isaAVX2: "avx2", isaAVX512: "avx512", isaAMX: "amx"}
