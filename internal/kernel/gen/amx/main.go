// Command amx writes the amd64 kernels of bfloat16 products: the conversion of activations and of widened
// weights to one or two parts of bfloat16, and the products on AMX tiles.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

func main() {
	for _, parts := range []int{1, 2} {
		activations(parts)
		weights(parts)
	}
	for _, t := range simd.Targets {
		round(t)
	}
	for _, k := range []tileKernel{{"tilesBF16AMX", 1, 1}, {"tilesSplit2AMX", 2, 1}, {"tilesSplit3AMX", 2, 2}} {
		k.write()
	}
	tilePeak()
	Generate()
}

// rounder rounds float32 to bfloat16, to nearest with ties to even, in the upper half of each lane; NaN
// stays NaN. The method is that of narrowBF16 in command weights.
type rounder struct {
	half, one, quiet, upper reg.VecVirtual
}

func newRounder() rounder {
	constant := func(x uint32) reg.VecVirtual {
		g, v := GP32(), ZMM()
		MOVL(U32(x), g)
		VPBROADCASTD(g, v)
		return v
	}
	return rounder{constant(0x7fff), constant(1), constant(0x400000), constant(0xffff0000)}
}

// round returns x rounded. The lower halves of lanes are unspecified.
func (c rounder) round(x reg.VecVirtual) reg.VecVirtual {
	r, odd, k := ZMM(), ZMM(), K()
	VPSRLD(Imm(16), x, odd)
	VPANDD(c.one, odd, odd)
	VPADDD(c.half, x, r)
	VPADDD(odd, r, r)
	VCMPPS(Imm(3), x, x, k) // unordered: NaN
	VPORD(c.quiet, x, k, r)
	return r
}

// rest returns the remainder x − r of rounding x to r.
func (c rounder) rest(x, r reg.VecVirtual) reg.VecVirtual {
	v := ZMM()
	VPANDD(c.upper, r, v)
	VSUBPS(v, x, v)
	return v
}

// activations writes the kernel that converts a row of X to one or two parts.
func activations(parts int) {
	name := fmt.Sprintf("narrowRow%dAVX512", parts)
	TEXT(name, NOSPLIT, "func(hi, lo *uint16, x *float32, steps int, order *uint16)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s converts steps of 32 columns, written 2048 bytes apart; see narrowRowGo.", name))
	hi := Load(Param("hi"), GP64())
	lo := Load(Param("lo"), GP64())
	x := Load(Param("x"), GP64())
	steps := Load(Param("steps"), GP64())
	order := Load(Param("order"), GP64())
	turn := ZMM()
	VMOVDQU16(Mem{Base: order}, turn)
	c := newRounder()
	Label("loop")
	a, b := ZMM(), ZMM()
	VMOVUPS(Mem{Base: x}, a)
	VMOVUPS(Mem{Base: x, Disp: 64}, b)
	dst := []reg.Register{hi, lo}
	for p := range parts {
		ra, rb, idx := c.round(a), c.round(b), ZMM()
		if p < parts-1 {
			a, b = c.rest(a, ra), c.rest(b, rb)
		}
		VMOVDQA64(turn, idx)
		VPERMI2W(rb, ra, idx)
		VMOVDQU16(idx, Mem{Base: dst[p]})
	}
	ADDQ(I32(128), x)
	ADDQ(I32(stripBytes), hi)
	ADDQ(I32(stripBytes), lo)
	DECQ(steps)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// stripBytes is the size of one step of a strip of X: 32 rows of 32 bfloat16.
const stripBytes = 2048

// weights writes the kernel that converts a widened panel to pairs of one or two parts.
func weights(parts int) {
	name := fmt.Sprintf("narrowPanel%dAVX512", parts)
	TEXT(name, NOSPLIT, "func(hi, lo *uint16, src *float32, pairs int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s converts pairs of columns [2][16] to [16][2]; see narrowPanelGo.", name))
	hi := Load(Param("hi"), GP64())
	lo := Load(Param("lo"), GP64())
	src := Load(Param("src"), GP64())
	pairs := Load(Param("pairs"), GP64())
	c := newRounder()
	g, odd := GP32(), K()
	MOVL(U32(0xaaaaaaaa), g)
	KMOVD(g, odd)
	Label("loop")
	a, b := ZMM(), ZMM()
	VMOVUPS(Mem{Base: src}, a)
	VMOVUPS(Mem{Base: src, Disp: 64}, b)
	dst := []reg.Register{hi, lo}
	for p := range parts {
		ra, rb, both := c.round(a), c.round(b), ZMM()
		if p < parts-1 {
			a, b = c.rest(a, ra), c.rest(b, rb)
		}
		VPSRLD(Imm(16), ra, both)
		VMOVDQU16(rb, odd, both)
		VMOVDQU16(both, Mem{Base: dst[p]})
	}
	ADDQ(I32(128), src)
	ADDQ(Imm(64), hi)
	ADDQ(Imm(64), lo)
	DECQ(pairs)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// round writes the kernel that rounds in place, for levels that multiply rounded float32.
func round(t *simd.Target) {
	name := "roundBF16" + t.Name
	TEXT(name, NOSPLIT, "func(x *float32, n int)")
	Pragma("noescape")
	Doc(name + " rounds n values, a positive multiple of 16, to bfloat16; see roundBF16Go.")
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	constant := func(v uint32) reg.VecVirtual {
		g, c := GP32(), t.Vec()
		MOVL(U32(v), g)
		VMOVD(g, c.AsX())
		VPBROADCASTD(c.AsX(), c)
		return c
	}
	half, one, quiet, upper := constant(0x7fff), constant(1), constant(0x400000), constant(0xffff0000)
	Label("loop")
	for i := range t.PerPanel() {
		m := Mem{Base: x, Disp: i * t.Bytes}
		v, odd, r := t.Vec(), t.Vec(), t.Vec()
		VMOVUPS(m, v)
		VPSRLD(Imm(16), v, odd)
		if t == simd.AVX512 {
			k := K()
			VPANDD(one, odd, odd)
			VPADDD(half, v, r)
			VPADDD(odd, r, r)
			VCMPPS(Imm(3), v, v, k)
			VPORD(quiet, v, k, r)
			VPANDD(upper, r, r)
		} else {
			nan := t.Vec()
			VPAND(one, odd, odd)
			VPADDD(half, v, r)
			VPADDD(odd, r, r)
			VCMPPS(Imm(3), v, v, nan)
			VPOR(quiet, v, v)
			VBLENDVPS(nan, v, r, r)
			VPAND(upper, r, r)
		}
		VMOVUPS(r, m)
	}
	ADDQ(Imm(64), x)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
