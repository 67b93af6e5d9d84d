package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

const transposeSignature = "func(dst *float32, step int, src *float32, ld, rows, blocks int)"

// transposeAVX512 transposes 16x16 blocks. The addresses of rows past the last are that of the last, so
// that nothing outside the matrix is read.
func transposeAVX512() {
	TEXT("transposeAVX512", NOSPLIT, transposeSignature)
	Pragma("noescape")
	Doc("transposeAVX512 writes dst[k*step+r] = src[r*ld+k] for r < rows <= 16 and",
		"k < 16*blocks, in ascending k. Every store is a whole vector: lanes from rows on",
		"hold copies of the last row until the next k overwrites them.")
	dst := Load(Param("dst"), GP64())
	step := Load(Param("step"), GP64())
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	rows := Load(Param("rows"), GP64())
	blocks := Load(Param("blocks"), GP64())
	SHLQ(Imm(2), step)
	SHLQ(Imm(2), ld)

	Label("block")
	row := GP64()
	MOVQ(src, row)
	in := simd.AVX512.Vectors(16)
	for i := range in {
		VMOVUPS(Mem{Base: row}, in[i])
		if i < 15 {
			next := GP64()
			LEAQ(Mem{Base: row, Index: ld, Scale: 1}, next)
			CMPQ(rows, Imm(uint64(i+1)))
			CMOVQGT(next, row)
		}
	}
	// Interleave rows, then pairs of rows, in each 128-bit quarter; then exchange quarters.
	t := simd.AVX512.Vectors(16)
	for i := 0; i < 16; i += 2 {
		VUNPCKLPS(in[i+1], in[i], t[i])
		VUNPCKHPS(in[i+1], in[i], t[i+1])
	}
	u := simd.AVX512.Vectors(16) // u[4g+j]: rows 4g..4g+3 of columns j, j+4, j+8, j+12
	for i := 0; i < 16; i += 4 {
		VUNPCKLPD(t[i+2], t[i], u[i])
		VUNPCKHPD(t[i+2], t[i], u[i+1])
		VUNPCKLPD(t[i+3], t[i+1], u[i+2])
		VUNPCKHPD(t[i+3], t[i+1], u[i+3])
	}
	out := make([]reg.VecVirtual, 16)
	for j := range 4 {
		lo, hi, lo2, hi2 := ZMM(), ZMM(), ZMM(), ZMM()
		VSHUFF32X4(Imm(0x44), u[4+j], u[j], lo)     // columns j, j+4 of rows 0-3, 4-7
		VSHUFF32X4(Imm(0xee), u[4+j], u[j], hi)     // columns j+8, j+12
		VSHUFF32X4(Imm(0x44), u[12+j], u[8+j], lo2) // the same for rows 8-15
		VSHUFF32X4(Imm(0xee), u[12+j], u[8+j], hi2)
		for q := range 4 {
			out[j+4*q] = ZMM()
		}
		VSHUFF32X4(Imm(0x88), lo2, lo, out[j])
		VSHUFF32X4(Imm(0xdd), lo2, lo, out[j+4])
		VSHUFF32X4(Imm(0x88), hi2, hi, out[j+8])
		VSHUFF32X4(Imm(0xdd), hi2, hi, out[j+12])
	}
	for k := range out {
		VMOVUPS(out[k], Mem{Base: dst})
		ADDQ(step, dst)
	}
	ADDQ(Imm(64), src)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// transposeAVX2 transposes 8x8 blocks.
func transposeAVX2() {
	TEXT("transposeAVX2", NOSPLIT, transposeSignature)
	Pragma("noescape")
	Doc("transposeAVX2 is transposeAVX512 for rows <= 8 and 8 columns a block.")
	dst := Load(Param("dst"), GP64())
	step := Load(Param("step"), GP64())
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	rows := Load(Param("rows"), GP64())
	blocks := Load(Param("blocks"), GP64())
	SHLQ(Imm(2), step)
	SHLQ(Imm(2), ld)

	Label("block")
	row := GP64()
	MOVQ(src, row)
	in := simd.AVX2.Vectors(8)
	for i := range in {
		VMOVUPS(Mem{Base: row}, in[i])
		if i < 7 {
			next := GP64()
			LEAQ(Mem{Base: row, Index: ld, Scale: 1}, next)
			CMPQ(rows, Imm(uint64(i+1)))
			CMOVQGT(next, row)
		}
	}
	t := simd.AVX2.Vectors(8)
	for i := 0; i < 8; i += 2 {
		VUNPCKLPS(in[i+1], in[i], t[i])
		VUNPCKHPS(in[i+1], in[i], t[i+1])
	}
	u := simd.AVX2.Vectors(8)
	for i := 0; i < 8; i += 4 {
		VUNPCKLPD(t[i+2], t[i], u[i])
		VUNPCKHPD(t[i+2], t[i], u[i+1])
		VUNPCKLPD(t[i+3], t[i+1], u[i+2])
		VUNPCKHPD(t[i+3], t[i+1], u[i+3])
	}
	out := simd.AVX2.Vectors(8)
	for j := range 4 {
		VPERM2F128(Imm(0x20), u[4+j], u[j], out[j])
		VPERM2F128(Imm(0x31), u[4+j], u[j], out[j+4])
	}
	for k := range out {
		VMOVUPS(out[k], Mem{Base: dst})
		ADDQ(step, dst)
	}
	ADDQ(Imm(32), src)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// gather writes the kernel that packs a matrix without transposing it.
func gather(t *simd.Target) {
	name := "gather" + t.Name
	TEXT(name, NOSPLIT, "func(dst *float32, step int, src *float32, ld, n int)")
	Pragma("noescape")
	Doc(name + " copies 16 floats from each of n rows, ld apart, to places step apart in ascending order.")
	dst := Load(Param("dst"), GP64())
	step := Load(Param("step"), GP64())
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	n := Load(Param("n"), GP64())
	SHLQ(Imm(2), ld)
	SHLQ(Imm(2), step)
	Label("loop")
	for i := range t.PerPanel() {
		v := t.Vec()
		VMOVUPS(Mem{Base: src, Disp: i * t.Bytes}, v)
		VMOVUPS(v, Mem{Base: dst, Disp: i * t.Bytes})
	}
	ADDQ(ld, src)
	ADDQ(step, dst)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
