//go:build !amd64 && !arm64

package kernel

const isaVectors = isaGeneric

var isaNames = [...]string{isaGeneric: "generic"}

// bestISA returns the only level of this architecture.
func bestISA() isa { return isaGeneric }

// hasVNNI reports whether level l has kernels for products of 16-bit integers.
func hasVNNI(isa) bool { return false }
