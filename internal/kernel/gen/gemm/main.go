// Command gemm writes the microkernels of the matrix products, the transposition
// that packs their operands, and the loops that measure what a core can do.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// panelRows is the number of weight rows side by side in a panel.
const panelRows = 16

func main() {
	for mr := 1; mr <= 14; mr++ {
		for _, np := range []int{1, 2, 4, 8} {
			if np <= 2 || np == 4 && mr <= 3 || np == 8 && mr == 1 {
				microkernel(avx512, mr, np)
			}
		}
	}
	for mr := 1; mr <= 6; mr++ {
		for _, np := range []int{1, 2, 4} {
			if np == 1 || np == 2 && mr <= 2 || np == 4 && mr == 1 {
				microkernel(avx2, mr, np)
			}
		}
	}
	transposeAVX512()
	transposeAVX2()
	for _, t := range []*target{avx512, avx2} {
		peak(t)
		stream(t)
	}
	Generate()
}

// target is an instruction set to write for.
type target struct {
	name  string
	bytes int // of a vector
	vec   func() reg.VecVirtual
	zero  func(v reg.VecVirtual)
}

var (
	avx512 = &target{"AVX512", 64, ZMM, func(v reg.VecVirtual) { VPXORD(v, v, v) }}
	avx2   = &target{"AVX2", 32, YMM, func(v reg.VecVirtual) { VXORPS(v, v, v) }}
)

// vectors returns n registers.
func (t *target) vectors(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = t.vec()
	}
	return v
}

// strided addresses panels that lie ps bytes apart from one moving base: the
// multiples that scaled indices cannot reach have registers of their own.
type strided struct {
	base reg.Register
	odd  [8]reg.Register // odd[1], [3], [5], [7]: that multiple of ps
}

func newStrided(base, ps reg.Register, panels int) strided {
	s := strided{base: base}
	s.odd[1] = ps
	for p := 3; p < panels; p += 2 {
		r := GP64()
		IMUL3Q(U8(p), ps, r)
		s.odd[p] = r
	}
	return s
}

func (s strided) at(panel, disp int) Mem {
	if panel == 0 {
		return Mem{Base: s.base, Disp: disp}
	}
	scale := 1
	for panel%2 == 0 {
		panel, scale = panel/2, scale*2
	}
	return Mem{Base: s.base, Index: s.odd[panel], Scale: uint8(scale), Disp: disp}
}

// microkernel writes C[mr][16·np] (+)= A[k][mr]·B, one chain of fused
// multiply-adds for each element of C.
func microkernel(t *target, mr, np int) {
	name := fmt.Sprintf("gemm%s_%dx%d", t.name, mr, np)
	TEXT(name, NOSPLIT, "func(kc int, a, b *float32, ps int, c *float32, ldc, add int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s is a gemmFunc for %d rows and %d panels.", name, mr, np))
	per := panelRows * 4 / t.bytes // vectors in a panel's row
	nv := np * per
	kc := Load(Param("kc"), GP64())
	a := Load(Param("a"), GP64())
	b := Load(Param("b"), GP64())
	ps := Load(Param("ps"), GP64())
	SHLQ(Imm(2), ps)
	panels := newStrided(b, ps, np)
	acc := make([][]reg.VecVirtual, mr)
	for r := range acc {
		acc[r] = t.vectors(nv)
		for _, v := range acc[r] {
			t.zero(v)
		}
	}
	unroll := 1
	if mr*np <= 8 {
		unroll = 4
	}
	bv := t.vectors(nv)
	if mr == 1 {
		bv = nil // used once: an operand in memory
	}
	bc := t.vec()
	step := func(u int) {
		weights := func(v int) Mem { return panels.at(v/per, u*panelRows*4+v%per*t.bytes) }
		for v := range bv {
			VMOVUPS(weights(v), bv[v])
		}
		for r := range mr {
			x := Mem{Base: a, Disp: 4 * (u*mr + r)}
			if t == avx512 && nv == 1 && mr > 1 {
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
		ADDQ(I32(int32(panelRows*4*n)), b)
	}
	if unroll > 1 {
		SUBQ(Imm(uint64(unroll)), kc)
		JLT(LabelRef("rest"))
		Label("loop4")
		for u := range unroll {
			step(u)
		}
		advance(unroll)
		SUBQ(Imm(uint64(unroll)), kc)
		JGE(LabelRef("loop4"))
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
	add := Load(Param("add"), GP64())
	TESTQ(add, add)
	JZ(LabelRef("first"))
	store := func(add bool) {
		for r := range mr {
			for v := range nv {
				m := Mem{Base: c, Disp: v * t.bytes}
				if add {
					VADDPS(m, acc[r][v], acc[r][v])
				}
				VMOVUPS(acc[r][v], m)
			}
			if r < mr-1 {
				ADDQ(ldc, c)
			}
		}
		VZEROUPPER()
		RET()
	}
	store(true)
	Label("first")
	store(false)
}
