package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

const fusedSignature = "func(kc int, x *float32, b *byte, ps int, table *float32, c *float32, add int)"

// frame is the part common to the two kinds of fused kernels.
type frame struct {
	t      *simd.Target
	np     int
	kc     reg.Register // remaining columns of the block
	left   reg.Register // columns of later blocks
	x, b   reg.Register
	panels simd.Strided
	acc    [][]reg.VecVirtual // one row: [0][np·perPanel]
	bc     reg.VecVirtual     // current element of x, in every lane
}

func newFrame(t *simd.Target, name string, np int) frame {
	TEXT(name, NOSPLIT, fusedSignature)
	Pragma("noescape")
	Doc(fmt.Sprintf("%s is a fusedFunc for %d panels.", name, np))
	f := frame{t: t, np: np}
	f.left = Load(Param("kc"), GP64())
	f.kc = GP64()
	f.x = Load(Param("x"), GP64())
	f.b = Load(Param("b"), GP64())
	f.panels = simd.NewStrided(f.b, Load(Param("ps"), GP64()), np)
	f.acc = [][]reg.VecVirtual{t.Vectors(np * t.PerPanel())}
	f.bc = t.Vec()
	return f
}

// blockCols is the number of columns of one chain of multiply-adds, blockK of package kernel.
const blockCols = 256

// begin starts a block, which is one chain of multiply-adds.
func (f frame) begin() {
	Label("chain")
	MOVQ(f.left, f.kc)
	CMPQ(f.kc, I32(blockCols))
	JLE(LabelRef("whole"))
	MOVQ(U32(blockCols), f.kc)
	Label("whole")
	SUBQ(f.kc, f.left)
	for _, v := range f.acc[0] {
		f.t.Zero(v)
	}
}

// multiply adds x[k]·w to sum v.
func (f frame) multiply(v int, w reg.VecVirtual) { VFMADD231PS(f.bc, w, f.acc[0][v]) }

// finish stores the sums of the block, or adds them to C, and continues with the next block.
func (f frame) finish(add reg.Register) {
	Label("store")
	c := Load(Param("c"), GP64())
	store := func(sum bool) {
		for v, acc := range f.acc[0] {
			m := Mem{Base: c, Disp: v * f.t.Bytes}
			if sum {
				VADDPS(m, acc, acc)
			}
			VMOVUPS(acc, m)
		}
	}
	TESTQ(add, add)
	JZ(LabelRef("first"))
	store(true)
	JMP(LabelRef("stored"))
	Label("first")
	store(false)
	Label("stored")
	MOVQ(U32(1), add)
	TESTQ(f.left, f.left)
	JNZ(LabelRef("chain"))
	VZEROUPPER()
	RET()
}

// fusedDense multiplies one row by panels of dense weights.
func fusedDense(t *simd.Target, d dense, np int) {
	f := newFrame(t, fmt.Sprintf("fused%s%s_%d", d.name(), t.Name, np), np)
	row := simd.PanelRows * d.bytes()
	column := func(u int) {
		VBROADCASTSS(Mem{Base: f.x, Disp: 4 * u}, f.bc)
		for v := range f.acc[0] {
			w := t.Vec()
			at := u*row + v%t.PerPanel()*t.Lanes()*d.bytes()
			if at%64 == 0 {
				PREFETCHT0(f.panels.At(v/t.PerPanel(), at+simd.Ahead))
			}
			d.load(f.panels.At(v/t.PerPanel(), at), w)
			f.multiply(v, w)
		}
	}
	add := Load(Param("add"), GP64())
	f.begin()
	const unroll = 4
	SUBQ(Imm(unroll), f.kc)
	JLT(LabelRef("rest"))
	Label("unrolled")
	for u := range unroll {
		column(u)
	}
	ADDQ(Imm(4*unroll), f.x)
	ADDQ(Imm(uint64(row*unroll)), f.b)
	SUBQ(Imm(unroll), f.kc)
	JGE(LabelRef("unrolled"))
	Label("rest")
	ADDQ(Imm(unroll), f.kc)
	JZ(LabelRef("store"))
	Label("loop")
	column(0)
	ADDQ(Imm(4), f.x)
	ADDQ(Imm(uint64(row)), f.b)
	DECQ(f.kc)
	JNZ(LabelRef("loop"))
	f.finish(add)
}

// fusedLUT multiplies one row by panels of packed indices.
func fusedLUT(t *simd.Target, field, np int) {
	f := newFrame(t, fmt.Sprintf("fusedLUT%d%s_%d", field, t.Name, np), np)
	table := Load(Param("table"), GP64())
	look := make([]lookup, np)
	for p := range look {
		look[p] = newLookup(t, field, Mem{Base: table, Disp: p * simd.PanelRows * 4})
	}
	per := t.PerPanel()
	idx := t.Vectors(np * per)
	load := func() {
		for v := range idx {
			if v%per == 0 {
				PREFETCHT0(f.panels.At(v/per, simd.Ahead))
			}
			VMOVUPS(f.panels.At(v/per, v%per*t.Bytes), idx[v])
		}
	}
	columns := look[0].columns()
	add := Load(Param("add"), GP64())
	f.begin()
	SUBQ(Imm(uint64(columns)), f.kc)
	JLT(LabelRef("rest"))
	Label("block")
	load()
	for u := range columns {
		VBROADCASTSS(Mem{Base: f.x, Disp: 4 * u}, f.bc)
		for v := range idx {
			w := t.Vec()
			look[v/per].takeNth(u, idx[v], w)
			f.multiply(v, w)
		}
	}
	ADDQ(Imm(uint64(4*columns)), f.x)
	ADDQ(Imm(simd.PanelRows*4), f.b)
	SUBQ(Imm(uint64(columns)), f.kc)
	JGE(LabelRef("block"))
	Label("rest")
	ADDQ(Imm(uint64(columns)), f.kc)
	JZ(LabelRef("store"))
	load() // the last block of columns is partial
	Label("loop")
	VBROADCASTSS(Mem{Base: f.x}, f.bc)
	for v := range idx {
		w := t.Vec()
		look[v/per].take(idx[v], w)
		look[v/per].next(idx[v])
		f.multiply(v, w)
	}
	ADDQ(Imm(4), f.x)
	DECQ(f.kc)
	JNZ(LabelRef("loop"))
	f.finish(add)
}
