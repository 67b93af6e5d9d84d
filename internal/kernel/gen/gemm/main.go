// Command gemm writes the amd64 microkernels of the matrix products, the transposition that packs their
// operands, and the loops that measure the peak rates of a core.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

func main() {
	for mr := 1; mr <= 14; mr++ {
		for _, np := range []int{1, 2, 4, 8} {
			if np <= 2 || np == 4 && mr <= 6 || np == 8 && mr == 1 {
				microkernel(simd.AVX512, mr, np)
			}
		}
	}
	for mr := 1; mr <= 6; mr++ {
		for _, np := range []int{1, 2, 4} {
			if np == 1 || np == 2 && mr <= 2 || np == 4 && mr == 1 {
				microkernel(simd.AVX2, mr, np)
			}
		}
	}
	transposeAVX512()
	transposeAVX2()
	for _, t := range simd.Targets {
		gather(t)
		peak(t)
		stream(t, false)
		stream(t, true)
	}
	Generate()
}

// microkernel writes C[mr][16·np] (+)= A[k][mr]·B, one chain of fused
// multiply-adds for each element of C.
func microkernel(t *simd.Target, mr, np int) {
	name := fmt.Sprintf("gemm%s_%dx%d", t.Name, mr, np)
	TEXT(name, NOSPLIT, "func(kc int, a, b *float32, ps int, c *float32, ldc, add int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s is a gemmFunc: rows of A x panels of B.", name))
	per := t.PerPanel()
	nv := np * per
	kc := Load(Param("kc"), GP64())
	a := Load(Param("a"), GP64())
	b := Load(Param("b"), GP64())
	ps := Load(Param("ps"), GP64())
	SHLQ(Imm(2), ps)
	panels := simd.NewStrided(b, ps, np)
	acc := make([][]reg.VecVirtual, mr)
	for r := range acc {
		acc[r] = t.Zeros(nv)
	}
	unroll := 1
	if mr*np <= 8 {
		unroll = 4
	}
	bv := t.Vectors(nv)
	if mr == 1 {
		bv = nil // used once: a memory operand
	}
	bc := t.Vec()
	step := func(u int) {
		weights := func(v int) Mem { return panels.At(v/per, u*simd.PanelRows*4+v%per*t.Bytes) }
		for v := range bv {
			VMOVUPS(weights(v), bv[v])
		}
		for r := range mr {
			x := Mem{Base: a, Disp: 4 * (u*mr + r)}
			if t == simd.AVX512 && nv == 1 && mr > 1 {
				VFMADD231PS_BCST(x, bv[0], acc[r][0])
				continue
			}
			VBROADCASTSS(x, bc)
			for v := range nv {
				if bv == nil {
					VFMADD231PS(weights(v), bc, acc[r][v])
				} else {
					VFMADD231PS(bv[v], bc, acc[r][v])
				}
			}
		}
	}
	advance := func(n int) {
		ADDQ(I32(int32(4*mr*n)), a)
		ADDQ(I32(int32(simd.PanelRows*4*n)), b)
	}
	if unroll > 1 {
		SUBQ(Imm(uint64(unroll)), kc)
		JLT(LabelRef("rest"))
		Label("unrolled")
		for u := range unroll {
			step(u)
		}
		advance(unroll)
		SUBQ(Imm(uint64(unroll)), kc)
		JGE(LabelRef("unrolled"))
		Label("rest")
		ADDQ(Imm(uint64(unroll)), kc)
		JZ(LabelRef("store"))
	}
	Label("loop")
	step(0)
	advance(1)
	DECQ(kc)
	JNZ(LabelRef("loop"))
	Label("store")
	c := Load(Param("c"), GP64())
	ldc := Load(Param("ldc"), GP64())
	SHLQ(Imm(2), ldc)
	t.StoreSums(acc, c, ldc, Load(Param("add"), GP64()))
}
