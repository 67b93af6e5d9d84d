package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

// lookup converts dwords of packed indices, one row in each, to float32 weights. The 16 entries of a
// table are in registers. A permutation uses the lowest 4 (AVX-512) or 3 bits (AVX2) of a lane, so that
// no mask is needed: tables of 4 entries are repeated, and AVX2 looks up both halves of a table of 16
// and selects by the fourth bit.
type lookup struct {
	t     *simd.Target
	field int              // bits of an index, 2 or 4
	table []reg.VecVirtual // 16 entries, or the first 8, or both halves of 8
	above reg.VecVirtual   // AVX-512, 2 bits: table for the second field; else nil
}

func newLookup(t *simd.Target, field int, at Mem) lookup {
	l := lookup{t: t, field: field}
	n := 1
	if t == simd.AVX2 && field == 4 {
		n = 2
	}
	l.table = t.Vectors(n)
	for i, v := range l.table {
		VMOVUPS(at.Offset(i*t.Bytes), v)
	}
	if t == simd.AVX512 && field == 2 {
		l.above = t.Vec()
		fields := t.Vec()
		VMOVDQU32(secondFields(), fields)
		VPERMPS(l.table[0], fields, l.above)
	}
	return l
}

var secondData *Mem

// secondFields holds the dwords 0, 0, 0, 0, 1, ... 3: the second 2-bit field of each 4-bit number.
func secondFields() Mem {
	if secondData == nil {
		m := GLOBL("secondFields", RODATA|NOPTR)
		for i := range 16 {
			DATA(4*i, U32(uint32(i/4)))
		}
		secondData = &m
	}
	return *secondData
}

// takeNth writes the weights of field n of idx to dst. It must be called in ascending order of n. A
// table for the second field saves every other shift.
func (l lookup) takeNth(n int, idx, dst reg.VecVirtual) {
	switch {
	case l.above == nil:
		if n > 0 {
			l.next(idx)
		}
		l.take(idx, dst)
	case n%2 == 1:
		VPERMPS(l.above, idx, dst)
	default:
		if n > 0 {
			VPSRLD(Imm(4), idx, idx)
		}
		l.take(idx, dst)
	}
}

// columns returns the number of columns in a dword.
func (l lookup) columns() int { return 32 / l.field }

// take writes the weights of the lowest field of idx to dst.
func (l lookup) take(idx, dst reg.VecVirtual) {
	VPERMPS(l.table[0], idx, dst)
	if len(l.table) == 1 {
		return
	}
	upper, pick := l.t.Vec(), l.t.Vec()
	VPERMPS(l.table[1], idx, upper)
	VPSLLD(Imm(28), idx, pick) // the fourth bit becomes the sign
	VBLENDVPS(pick, upper, dst, dst)
}

// next shifts the next field to the lowest bits.
func (l lookup) next(idx reg.VecVirtual) { VPSRLD(Imm(uint64(l.field)), idx, idx) }

// widenLUT writes a panel of packed indices as float32.
func widenLUT(t *simd.Target, field int) {
	name := fmt.Sprintf("widenLUT%d%s", field, t.Name)
	TEXT(name, NOSPLIT, "func(dst *float32, src *uint32, table, scale *float32, blocks int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s widens blocks of %d columns; see widenLUTGo.", name, 32/field))
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	look := newLookup(t, field, Mem{Base: Load(Param("table"), GP64())})
	scale := t.Vectors(t.PerPanel())
	s := Load(Param("scale"), GP64())
	for i, v := range scale {
		VMOVUPS(Mem{Base: s, Disp: i * t.Bytes}, v)
	}
	blocks := Load(Param("blocks"), GP64())
	idx := t.Vectors(t.PerPanel())
	Label("loop")
	for i, v := range idx {
		VMOVUPS(Mem{Base: src, Disp: i * t.Bytes}, v)
	}
	for c := range look.columns() {
		for i, v := range idx {
			w := t.Vec()
			look.take(v, w)
			VMULPS(scale[i], w, w)
			VMOVUPS(w, Mem{Base: dst, Disp: c*simd.PanelRows*4 + i*t.Bytes})
			if c < look.columns()-1 {
				look.next(v)
			}
		}
	}
	ADDQ(Imm(simd.PanelRows*4), src)
	ADDQ(I32(int32(simd.PanelRows*4*look.columns())), dst)
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// widenBytes writes a panel of one-byte indices as float32.
func widenBytes(t *simd.Target) {
	name := "widenLUT8" + t.Name
	TEXT(name, NOSPLIT, "func(dst *float32, src *uint8, table *float32, base *int32, scale *float32, cols int)")
	Pragma("noescape")
	Doc(name + " widens one panel of byte indices; see widenLUT8Go.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	table := Load(Param("table"), GP64())
	b := Load(Param("base"), GP64())
	s := Load(Param("scale"), GP64())
	base, scale := t.Vectors(t.PerPanel()), t.Vectors(t.PerPanel())
	for i := range base {
		VMOVUPS(Mem{Base: b, Disp: i * t.Bytes}, base[i])
		VMOVUPS(Mem{Base: s, Disp: i * t.Bytes}, scale[i])
	}
	cols := Load(Param("cols"), GP64())
	Label("loop")
	for i := range base {
		idx, w := t.Vec(), t.Vec()
		VPMOVZXBD(Mem{Base: src, Disp: i * t.Lanes()}, idx)
		VPADDD(base[i], idx, idx)
		t.Zero(w)
		at := Mem{Base: table, Index: idx, Scale: 4}
		if t == simd.AVX512 {
			k := K()
			KXNORW(k, k, k)
			VGATHERDPS(at, k, w)
		} else {
			all := YMM()
			VPCMPEQD(all, all, all)
			VGATHERDPS(all, at, w)
		}
		VMULPS(scale[i], w, w)
		VMOVUPS(w, Mem{Base: dst, Disp: i * t.Bytes})
	}
	ADDQ(Imm(simd.PanelRows), src)
	ADDQ(Imm(simd.PanelRows*4), dst)
	DECQ(cols)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
