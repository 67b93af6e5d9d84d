// Command weights writes the amd64 kernels that read stored weights: widening of a panel to float32,
// the product of one row with panels in their stored form, and the conversions between 16-bit floats
// and float32.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

func main() {
	for _, t := range simd.Targets {
		for _, f := range []dense{f16, bf16, int8} {
			widen(t, f)
		}
		widenLUT(t, 4)
		widenLUT(t, 2)
		widenBytes(t)
		narrowF16(t)
		narrowBF16(t)
	}
	for _, t := range simd.Targets {
		widths := []int{1, 4, 8}
		lutWidths := widths
		if t == simd.AVX2 {
			widths, lutWidths = []int{1, 4}, []int{1, 2}
		}
		for _, np := range widths {
			for _, f := range []dense{f16, bf16, int8} {
				fusedDense(t, f, np)
			}
		}
		for _, np := range lutWidths {
			for _, field := range []int{4, 2} {
				if field == 2 && np == 8 {
					continue // the registers suffice for the two tables of four panels
				}
				fusedLUT(t, field, np)
			}
		}
	}
	Generate()
}

// dense is a format without look-up tables.
type dense int

const (
	f16 dense = iota
	bf16
	int8
)

func (f dense) name() string { return [...]string{"F16", "BF16", "Int8"}[f] }

// bytes returns the size of one weight.
func (f dense) bytes() int { return [...]int{2, 2, 1}[f] }

// load widens the vector of weights at m, without the factors of rows.
func (f dense) load(m Op, v reg.VecVirtual) {
	switch f {
	case f16:
		VCVTPH2PS(m, v)
	case bf16:
		VPMOVZXWD(m, v)
		VPSLLD(Imm(16), v, v)
	case int8:
		VPMOVSXBD(m, v)
		VCVTDQ2PS(v, v)
	}
}

// widen writes a panel [n/16][16] of dense weights as float32.
func widen(t *simd.Target, f dense) {
	name := "widen" + f.name() + t.Name
	elem := "uint16"
	scale := ""
	if f == int8 {
		elem, scale = "int8", ", scale *float32"
	}
	TEXT(name, NOSPLIT, "func(dst *float32, src *"+elem+scale+", n int)")
	Pragma("noescape")
	Doc(name + " widens n weights, a positive multiple of 16; see widen" + f.name() + "Go.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	var factor []reg.VecVirtual
	if f == int8 {
		factor = t.Vectors(t.PerPanel())
		s := Load(Param("scale"), GP64())
		for i, v := range factor {
			VMOVUPS(Mem{Base: s, Disp: i * t.Bytes}, v)
		}
	}
	n := Load(Param("n"), GP64())
	v := t.Vectors(t.PerPanel())
	Label("loop")
	PREFETCHT0(Mem{Base: src, Disp: 2048})
	for i := range v {
		f.load(Mem{Base: src, Disp: i * t.Lanes() * f.bytes()}, v[i])
		if factor != nil {
			VMULPS(factor[i], v[i], v[i])
		}
		VMOVUPS(v[i], Mem{Base: dst, Disp: i * t.Bytes})
	}
	ADDQ(Imm(uint64(simd.PanelRows*f.bytes())), src)
	ADDQ(Imm(simd.PanelRows*4), dst)
	SUBQ(Imm(simd.PanelRows), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// narrowF16 rounds to half precision.
func narrowF16(t *simd.Target) {
	name := "narrowF16" + t.Name
	TEXT(name, NOSPLIT, "func(dst *uint16, src *float32, n int)")
	Pragma("noescape")
	Doc(name + " rounds n values, a positive multiple of 16; see narrowF16Go.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("n"), GP64())
	v := t.Vectors(t.PerPanel())
	Label("loop")
	for i := range v {
		VMOVUPS(Mem{Base: src, Disp: i * t.Bytes}, v[i])
		VCVTPS2PH(Imm(0), v[i], Mem{Base: dst, Disp: i * t.Bytes / 2})
	}
	ADDQ(Imm(64), src)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// narrowBF16 rounds to bfloat16 with integer arithmetic: it adds 0x7fff, plus 1 if the last bit that
// stays is odd, and takes the upper half.
func narrowBF16(t *simd.Target) {
	name := "narrowBF16" + t.Name
	TEXT(name, NOSPLIT, "func(dst *uint16, src *float32, n int)")
	Pragma("noescape")
	Doc(name + " rounds n values, a positive multiple of 16; see narrowBF16Go.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("n"), GP64())
	constant := func(x uint32) reg.VecVirtual {
		g, v := GP32(), t.Vec()
		MOVL(U32(x), g)
		if t == simd.AVX512 {
			VPBROADCASTD(g, v)
		} else {
			VMOVD(g, v.AsX())
			VPBROADCASTD(v.AsX(), v)
		}
		return v
	}
	half, one, quiet := constant(0x7fff), constant(1), constant(0x40)
	Label("loop")
	var out []reg.VecVirtual
	for i := range t.PerPanel() {
		v, up, odd, nan := t.Vec(), t.Vec(), t.Vec(), t.Vec()
		VMOVUPS(Mem{Base: src, Disp: i * t.Bytes}, v)
		VPSRLD(Imm(16), v, up)
		if t == simd.AVX512 {
			k := K()
			VCMPPS(Imm(3), v, v, k) // unordered: NaN
			VPANDD(one, up, odd)
			VPADDD(half, v, nan)
			VPADDD(odd, nan, nan)
			VPSRLD(Imm(16), nan, nan)
			VPORD(quiet, up, k, nan)
			VPMOVDW(nan, Mem{Base: dst})
			continue
		}
		VCMPPS(Imm(3), v, v, nan)
		VPAND(one, up, odd)
		VPADDD(half, v, v)
		VPADDD(odd, v, v)
		VPSRLD(Imm(16), v, v)
		VPOR(quiet, up, up)
		VBLENDVPS(nan, up, v, v)
		out = append(out, v)
	}
	if t == simd.AVX2 {
		VPACKUSDW(out[1], out[0], out[0]) // quarters 0, 2, 1, 3
		VPERMQ(Imm(0xd8), out[0], out[0])
		VMOVDQU(out[0], Mem{Base: dst})
	}
	ADDQ(Imm(64), src)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
