package kernel

import (
	"sync"

	"golang.org/x/sys/cpu"
)

const (
	isaAVX2 isa = 1 + iota
	isaAVX512
	isaAMX // the AVX-512 kernels, and tiles for the arithmetics that use bfloat16

	isaVectors = isaAVX512
)

var isaNames = [...]string{isaGeneric: "generic", isaAVX2: "avx2", isaAVX512: "avx512", isaAMX: "amx"}

// bestISA returns the widest level of this machine.
func bestISA() isa {
	x := &cpu.X86
	switch {
	case !x.HasAVX2 || !x.HasFMA || !x.HasF16C:
		return isaGeneric
	case !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL:
		return isaAVX2
	case !hasAMX():
		return isaAVX512
	}
	return isaAMX
}

// hasAMX reports whether the processor has bfloat16 tiles and the operating system lets this
// process use them.
var hasAMX = sync.OnceValue(func() bool {
	return cpu.X86.HasAMXTile && cpu.X86.HasAMXBF16 && allowTiles()
})

// hasVNNI reports whether level l has kernels for products of 16-bit integers.
func hasVNNI(l isa) bool { return l >= isaAVX512 && cpu.X86.HasAVX512VNNI }
