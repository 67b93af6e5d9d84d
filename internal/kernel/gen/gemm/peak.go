package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"

	"afmq/internal/kernel/gen/simd"
)

// peakChains is the number of independent multiply-adds in the peak loop: more than the product of
// latency and execution units of present cores.
const peakChains = 12

// peak writes a loop of multiply-adds on registers.
func peak(t *simd.Target) {
	name := "peak" + t.Name
	TEXT(name, NOSPLIT, "func(n int) (flops int)")
	Doc(fmt.Sprintf("%s executes n rounds of %d fused multiply-adds on registers and returns the number of floating-point operations.", name, peakChains))
	n := Load(Param("n"), GP64())
	flops := GP64()
	MOVQ(n, flops)
	IMUL3Q(I32(int32(peakChains*t.Bytes/4*2)), flops, flops)
	acc := t.Vectors(peakChains)
	for _, v := range acc {
		t.Zero(v)
	}
	x := t.Vec()
	t.Zero(x)
	Label("loop")
	for _, v := range acc {
		VFMADD231PS(x, x, v)
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	Store(flops, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// stream writes a loop that reads memory. With fetch it prefetches explicitly, which is faster on some
// processors and slower on others.
func stream(t *simd.Target, fetch bool) {
	name := "stream" + t.Name
	if fetch {
		name = "fetch" + t.Name
	}
	TEXT(name, NOSPLIT, "func(p *byte, n int) (sum uint64)")
	Pragma("noescape")
	Doc(name + " reads n bytes, a multiple of 512, and returns a sum of some of their bits.")
	p := Load(Param("p"), GP64())
	n := Load(Param("n"), GP64())
	acc := t.Vectors(4)
	for _, v := range acc {
		t.Zero(v)
	}
	Label("loop")
	for i := range 512 / t.Bytes {
		m := Mem{Base: p, Disp: i * t.Bytes}
		if fetch && i*t.Bytes%64 == 0 {
			PREFETCHT0(m.Offset(simd.Ahead))
		}
		if t == simd.AVX512 {
			VPORD(m, acc[i%4], acc[i%4])
		} else {
			VPOR(m, acc[i%4], acc[i%4])
		}
	}
	ADDQ(I32(512), p)
	SUBQ(I32(512), n)
	JNZ(LabelRef("loop"))
	sum := GP64()
	for i := 1; i < 4; i++ {
		if t == simd.AVX512 {
			VPORD(acc[i], acc[0], acc[0])
		} else {
			VPOR(acc[i], acc[0], acc[0])
		}
	}
	VMOVQ(acc[0].AsX(), sum)
	Store(sum, ReturnIndex(0))
	VZEROUPPER()
	RET()
}
