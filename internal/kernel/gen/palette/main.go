// Command palette writes the amd64 kernels that fit palettes: histogram cells, the search for the nearest
// value, the squared error, and the largest magnitude. Every kernel processes groups of 16 elements.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

func main() {
	for _, t := range simd.Targets {
		cells(t)
		intervals(t)
		lookupError(t)
		maxMagnitude(t)
	}
	Generate()
}

// begin starts a kernel with the given parameters.
func begin(t *simd.Target, name, params string) {
	TEXT(name+t.Name, NOSPLIT, "func("+params+")")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s%s processes n elements, a positive multiple of 16; see %sGo.", name, t.Name, name))
}

// loop writes a loop that executes body for each 16 of n elements.
func loop(label string, n reg.Register, body func()) {
	Label(label)
	body()
	SUBQ(Imm(16), n)
	JNZ(LabelRef(label))
}

// end writes the return.
func end() {
	VZEROUPPER()
	RET()
}

// integers broadcasts an integer to all lanes.
func integers(t *simd.Target, x uint32) reg.VecVirtual {
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

// floats broadcasts the float32 at m.
func floats(t *simd.Target, m Op) reg.VecVirtual {
	v := t.Vec()
	VBROADCASTSS(m, v)
	return v
}

func param(name string) Op {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// narrow16 stores 16 integers below 65536 as 16-bit integers.
func narrow16(t *simd.Target, v []reg.VecVirtual, to Mem) {
	if t == simd.AVX512 {
		VPMOVDW(v[0], to)
		return
	}
	VMOVDQU(packed(v), to)
}

// narrow8 stores 16 integers below 256 as bytes.
func narrow8(t *simd.Target, v []reg.VecVirtual, to Mem) {
	if t == simd.AVX512 {
		VPMOVDB(v[0], to)
		return
	}
	words, upper := packed(v), XMM()
	VEXTRACTI128(Imm(1), words, upper)
	VPACKUSWB(upper, words.AsX(), upper)
	VMOVDQU(upper, to)
}

// packed returns two vectors of 8 integers as one vector of 16-bit integers.
func packed(v []reg.VecVirtual) reg.VecVirtual {
	w := YMM()
	VPACKUSDW(v[1], v[0], w) // quarters 0, 2, 1, 3
	VPERMQ(Imm(0xd8), w, w)
	return w
}

func cells(t *simd.Target) {
	begin(t, "cells", "dst *uint16, x *float32, scale, offset float32, n int")
	dst, x := Load(Param("dst"), GP64()), Load(Param("x"), GP64())
	scale, offset := floats(t, param("scale")), floats(t, param("offset"))
	zero, most := t.Vec(), integers(t, 0x477fff00) // 65535
	t.Zero(zero)
	n := Load(Param("n"), GP64())
	loop("loop", n, func() {
		v := t.Vectors(t.PerPanel())
		for i := range v {
			VMULPS(Mem{Base: x, Disp: i * t.Bytes}, scale, v[i])
			VADDPS(offset, v[i], v[i])
			VMAXPS(zero, v[i], v[i])
			VMINPS(most, v[i], v[i])
			VCVTTPS2DQ(v[i], v[i])
		}
		narrow16(t, v, Mem{Base: dst})
		ADDQ(Imm(64), x)
		ADDQ(Imm(32), dst)
	})
	end()
}

func maxMagnitude(t *simd.Target) {
	begin(t, "maxMagnitude", "x *float32, n int, most *[16]uint32")
	x, n := Load(Param("x"), GP64()), Load(Param("n"), GP64())
	at := Load(Param("most"), GP64())
	notSign := integers(t, 0x7fffffff)
	most := t.Vectors(t.PerPanel())
	for i, v := range most {
		VMOVUPS(Mem{Base: at, Disp: i * t.Bytes}, v)
	}
	loop("loop", n, func() {
		for i, m := range most {
			v := t.Vec()
			if t == simd.AVX512 {
				VPANDD(Mem{Base: x, Disp: i * t.Bytes}, notSign, v)
			} else {
				VPAND(Mem{Base: x, Disp: i * t.Bytes}, notSign, v)
			}
			VPMAXUD(v, m, m)
		}
		ADDQ(Imm(64), x)
	})
	for i, v := range most {
		VMOVUPS(v, Mem{Base: at, Disp: i * t.Bytes})
	}
	end()
}

// fetch looks up entries of a table that starts at element first, by indices below 2^bits. It uses a
// permutation if the entries fit in one register or, with AVX2, two; else a gather.
type fetch struct {
	t     *simd.Target
	table reg.Register
	first int
	held  []reg.VecVirtual // registers that hold the entries; nil for a gather
}

func newFetch(t *simd.Target, table reg.Register, first, bits int) fetch {
	f := fetch{t: t, table: table, first: first}
	vectors := (1<<bits + t.Lanes() - 1) / t.Lanes()
	if vectors > 2 || t == simd.AVX512 && vectors > 1 {
		return f
	}
	f.held = t.Vectors(vectors)
	for i, v := range f.held {
		VMOVUPS(Mem{Base: table, Disp: 4*first + i*t.Bytes}, v)
	}
	return f
}

func (f fetch) at(idx reg.VecVirtual) reg.VecVirtual {
	v := f.t.Vec()
	switch len(f.held) {
	case 0:
		m := Mem{Base: f.table, Disp: 4 * f.first, Index: idx, Scale: 4}
		f.t.Zero(v)
		if f.t == simd.AVX512 {
			k := K()
			KXNORW(k, k, k)
			VGATHERDPS(m, k, v)
		} else {
			all := YMM()
			VPCMPEQD(all, all, all)
			VGATHERDPS(all, m, v)
		}
	case 1:
		VPERMPS(f.held[0], idx, v)
	case 2: // bit 3 of the index selects the half
		upper, which := f.t.Vec(), f.t.Vec()
		VPERMPS(f.held[0], idx, v)
		VPERMPS(f.held[1], idx, upper)
		VPSLLD(Imm(28), idx, which)
		VBLENDVPS(which, upper, v, v)
	}
	return v
}

// byBits writes one loop for each width, and the jump to the loop for the parameter bits.
func byBits(write func(label string, bits int)) {
	bits := Load(Param("bits"), GP64())
	for b := 1; b < 8; b++ {
		CMPQ(bits, Imm(uint64(b)))
		JEQ(LabelRef(fmt.Sprintf("start%d", b)))
	}
	for b := 8; b >= 1; b-- {
		Label(fmt.Sprintf("start%d", b))
		write(fmt.Sprintf("loop%d", b), b)
	}
}

// intervals descends the tree; the position in a level is the index.
func intervals(t *simd.Target) {
	begin(t, "intervals", "dst *uint8, x *float32, h *[256]float32, bits, n int")
	dst, x := Load(Param("dst"), GP64()), Load(Param("x"), GP64())
	h, n := Load(Param("h"), GP64()), Load(Param("n"), GP64())
	one := integers(t, 1)
	byBits(func(label string, bits int) {
		root := floats(t, Mem{Base: h, Disp: 4})
		var levels []fetch
		for l := 1; l < bits; l++ {
			levels = append(levels, newFetch(t, h, 1<<l, l))
		}
		loop(label, n, func() {
			at := t.Vectors(t.PerPanel())
			for i := range at {
				v := t.Vec()
				VMOVUPS(Mem{Base: x, Disp: i * t.Bytes}, v)
				descend := func(threshold reg.VecVirtual) {
					const greater = 30 // quiet: NaN is not
					if t == simd.AVX512 {
						k := K()
						VCMPPS(Imm(greater), threshold, v, k)
						VPADDD(one, at[i], k, at[i])
						return
					}
					VCMPPS(Imm(greater), threshold, v, threshold)
					VPSUBD(threshold, at[i], at[i])
				}
				t.Zero(at[i])
				first := t.Vec()
				VMOVUPS(root, first)
				descend(first)
				for _, l := range levels {
					threshold := l.at(at[i])
					VPADDD(at[i], at[i], at[i])
					descend(threshold)
				}
			}
			narrow8(t, at, Mem{Base: dst})
			ADDQ(Imm(64), x)
			ADDQ(Imm(16), dst)
		})
		end()
	})
}

// lookupError sums squares in sixteen float64 lanes. Each square is rounded before the addition.
func lookupError(t *simd.Target) {
	begin(t, "lookupError", "x *float32, index *uint8, value *[256]float32, bits, n int, total *[16]float64")
	x, index := Load(Param("x"), GP64()), Load(Param("index"), GP64())
	value, n := Load(Param("value"), GP64()), Load(Param("n"), GP64())
	total := Load(Param("total"), GP64())
	sums := t.Vectors(2 * t.PerPanel())
	for i, v := range sums {
		VMOVUPD(Mem{Base: total, Disp: i * t.Bytes}, v)
	}
	widen := func(v reg.VecVirtual) [2]reg.VecVirtual {
		out := [2]reg.VecVirtual{t.Vec(), t.Vec()}
		if t == simd.AVX512 {
			upper := YMM()
			VEXTRACTF64X4(Imm(1), v, upper)
			VCVTPS2PD(v.AsY(), out[0])
			VCVTPS2PD(upper, out[1])
		} else {
			upper := XMM()
			VEXTRACTF128(Imm(1), v, upper)
			VCVTPS2PD(v.AsX(), out[0])
			VCVTPS2PD(upper, out[1])
		}
		return out
	}
	byBits(func(label string, bits int) {
		entries := newFetch(t, value, 0, bits)
		loop(label, n, func() {
			for i := range t.PerPanel() {
				v, idx := t.Vec(), t.Vec()
				VPMOVZXBD(Mem{Base: index, Disp: i * t.Lanes()}, idx)
				VMOVUPS(Mem{Base: x, Disp: i * t.Bytes}, v)
				xs, es := widen(v), widen(entries.at(idx))
				for j := range xs {
					VSUBPD(es[j], xs[j], xs[j])
					VMULPD(xs[j], xs[j], xs[j])
					VADDPD(xs[j], sums[2*i+j], sums[2*i+j])
				}
			}
			ADDQ(Imm(64), x)
			ADDQ(Imm(16), index)
		})
		for i, v := range sums {
			VMOVUPD(v, Mem{Base: total, Disp: i * t.Bytes})
		}
		end()
	})
}
