package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

// The constants. Each is sixteen times in memory, so that it can be an operand of either width. The Go
// twins, exp32 and klSumGo, document their meaning.
const (
	expMin = iota
	expMax
	log2e
	ln2Hi
	ln2Lo
	c2
	c3
	c4
	c5
	c6
	one
	bias // 127 as an integer
	signBit
	notSign
	half
	k2 // 1/2!, −1/3!, …, −1/9!
	k3
	k4
	k5
	k6
	k7
	k8
	k9
)

var constants = map[int]float32{
	expMin: -104, expMax: 89, log2e: 1.44269504088896341,
	ln2Hi: 0x1.62e43p-1, ln2Lo: -0x1.05c610ca86c39p-29,
	c2: 0.4999999403953552, c3: 0.1666652113199234, c4: 0.04166838899254799,
	c5: 0.00836874544620514, c6: 0.0013814540579915047,
	one: 1, bias: math.Float32frombits(127), signBit: math.Float32frombits(1 << 31),
	notSign: math.Float32frombits(1<<31 - 1), half: 0.5,
	k2: 1. / 2, k3: -1. / 6, k4: 1. / 24, k5: -1. / 120, k6: 1. / 720, k7: -1. / 5040,
	k8: 1. / 40320, k9: -1. / 362880,
}

var table Mem

// constant returns an operand with the constant in every lane.
func constant(c int) Mem { return table.Offset(c * 64) }

// writeConstants writes the table of constants. It must precede the kernels.
func writeConstants() {
	table = GLOBL("elementwiseConstants", RODATA|NOPTR)
	for c := range len(constants) {
		for lane := range 16 {
			DATA(c*64+lane*4, U32(math.Float32bits(constants[c])))
		}
	}
}

// exp replaces x by its exponential; see exp32.
func exp(t *simd.Target, x reg.VecVirtual) {
	n, q, s := t.Vec(), t.Vec(), t.Vec()
	// If one operand is NaN, these return the operand that Go assembly writes first.
	VMAXPS(x, loaded(t, expMin), x)
	VMINPS(x, loaded(t, expMax), x)
	VMULPS(constant(log2e), x, n)
	if t == simd.AVX512 {
		VRNDSCALEPS(Imm(8), n, n)
	} else {
		VROUNDPS(Imm(8), n, n)
	}
	VFNMADD231PS(constant(ln2Hi), n, x) // x becomes r
	VFNMADD231PS(constant(ln2Lo), n, x)
	VMOVUPS(constant(c6), q)
	for _, c := range []int{c5, c4, c3, c2} {
		VFMADD213PS(constant(c), x, q)
	}
	VMULPS(x, x, s)
	VFMADD213PS(x, s, q)
	VADDPS(constant(one), q, q)
	// 2^n as two factors, whose exponent bits are computed.
	i := t.Vec()
	VCVTPS2DQ(n, n)
	VPSRAD(Imm(1), n, i)
	VPSUBD(i, n, n)
	for _, v := range []reg.VecVirtual{i, n} {
		VPADDD(constant(bias), v, v)
		VPSLLD(Imm(23), v, v)
	}
	VMULPS(i, q, q)
	VMULPS(n, q, x)
}

// loaded returns a constant in a register, for instructions whose other operand may be in memory.
func loaded(t *simd.Target, c int) reg.VecVirtual {
	v := t.Vec()
	VMOVUPS(constant(c), v)
	return v
}
