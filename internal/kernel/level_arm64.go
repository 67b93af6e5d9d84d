package kernel

const (
	isaNEON isa = 1

	isaVectors = isaNEON
)

var isaNames = [...]string{isaGeneric: "generic", isaNEON: "neon"}

// bestISA returns the widest level of this machine: NEON, which every arm64 processor that
// Go supports has.
func bestISA() isa { return isaNEON }

// hasVNNI reports whether level l has kernels for products of 16-bit integers.
func hasVNNI(isa) bool { return false }
