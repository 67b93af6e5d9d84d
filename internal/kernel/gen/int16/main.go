// Command int16 writes the AVX-512 VNNI kernels of arithmetic I16: rounding of activations to integers,
// widening of stored weights to pairs of integers, and their products with VPDPWSSD, which adds two
// products to every sum.
package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

// scalePairs is the number of pairs of columns with a common factor: half of scaleCols of package
// kernel.
const scalePairs = 64

// minStrip and maxStrip are the numbers of rows for which strips are multiplied by stored weights: one
// and two rows have the fused kernels, and for more rows it pays to widen the weights first.
const (
	minStrip = 3
	maxStrip = 8
)

// vector is the size in bytes of one pair of columns of a panel: 16 rows of two int16.
const vector = 64

func main() {
	quantize()
	for _, f := range []stored{lut4, lut2, int8} {
		widen(f)
		for _, np := range []int{1, 4, 8} {
			fused(f, np)
		}
		for mr := minStrip; mr <= maxStrip; mr++ {
			for _, np := range []int{1, 2} {
				strip(f, mr, np)
			}
		}
	}
	for mr := 1; mr <= 14; mr++ {
		for _, np := range []int{1, 2, 4, 8} {
			if np <= 2 || np == 4 && mr <= 6 || np == 8 && mr == 1 {
				microkernel(mr, np)
			}
		}
	}
	Generate()
}

// quantize rounds a row of activations to integers, with a factor for each block.
func quantize() {
	TEXT("quantizeI16VNNI", NOSPLIT, "func(dst *int16, scale *float32, x *float32, n int, limit float32, order *uint16)")
	Pragma("noescape")
	Doc("quantizeI16VNNI rounds n values, a positive multiple of 16; see quantizeI16Go.")
	dst := Load(Param("dst"), GP64())
	scale := Load(Param("scale"), GP64())
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	limit := Load(Param("limit"), XMM())
	order := Load(Param("order"), GP64())
	turn := YMM()
	VMOVDQU16(Mem{Base: order}, turn)
	magnitude := constant(0x7fffffff)
	lanes := constant(math.Float32bits(1)).AsX()
	most := constant(math.Float32bits(math.MaxInt16)).AsX()
	largest := constant(math.Float32bits(1e30)).AsX()

	Label("block")
	count, at := GP64(), GP64()
	MOVQ(n, count)
	CMPQ(count, Imm(2*scalePairs))
	JLE(LabelRef("whole"))
	MOVQ(U32(2*scalePairs), count)
	Label("whole")
	SUBQ(count, n)
	left := GP64()
	MOVQ(count, left)
	MOVQ(x, at)
	sum, top := ZMM(), ZMM()
	VPXORD(sum, sum, sum)
	VPXORD(top, top, top)
	Label("measure")
	v := ZMM()
	VPANDD(Mem{Base: at}, magnitude, v)
	VADDPS(v, sum, sum)
	VMAXPS(v, top, top)
	ADDQ(Imm(vector), at)
	SUBQ(Imm(16), left)
	JNZ(LabelRef("measure"))
	fold(sum, func(a, b, dst reg.VecVirtual) { VADDPS(a, b, dst) })
	fold(top, func(a, b, dst reg.VecVirtual) { VMAXPS(a, b, dst) })

	// The factor for which every sum of products fits in 32 bits, and each value in 16.
	inv, other := XMM(), XMM()
	VDIVSS(sum.AsX(), limit, inv)
	VDIVSS(top.AsX(), most, other)
	VMINSS(inv, other, inv)
	VMINSS(largest, inv, inv)
	back, nan := XMM(), XMM()
	VDIVSS(inv, lanes, back)
	VSUBSS(sum.AsX(), sum.AsX(), nan) // zero, or NaN if a value is not finite
	VADDSS(nan, back, back)
	VMOVSS(back, Mem{Base: scale})
	factor := ZMM()
	VBROADCASTSS(inv, factor)

	Label("round")
	q, words := ZMM(), YMM()
	VMULPS(Mem{Base: x}, factor, q)
	VCVTPS2DQ(q, q)
	VPMOVSDW(q, words)
	VPERMW(words, turn, words)
	VMOVDQU16(words, Mem{Base: dst})
	ADDQ(Imm(vector), x)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(16), count)
	JNZ(LabelRef("round"))
	ADDQ(Imm(4), scale)
	TESTQ(n, n)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// constant returns a register with x in every dword.
func constant(x uint32) reg.VecVirtual {
	g, v := GP32(), ZMM()
	MOVL(U32(x), g)
	VPBROADCASTD(g, v)
	return v
}

// fold reduces the 16 lanes of v to lane 0: it combines lane i with i+8, then i+4, i+2 and i+1.
func fold(v reg.VecVirtual, op func(a, b, dst reg.VecVirtual)) {
	t := ZMM()
	VSHUFF64X2(Imm(0x0e), v, v, t)
	op(t, v, v)
	VSHUFF64X2(Imm(0x01), v, v, t)
	op(t, v, v)
	VPSHUFD(Imm(0x0e), v, t)
	op(t, v, v)
	VPSHUFD(Imm(0x01), v, t)
	op(t, v, v)
}

// stored is a storage format of weights.
type stored int

const (
	lut4 stored = iota
	lut2
	int8
)

func (f stored) name() string { return [...]string{"LUT4", "LUT2", "Int8"}[f] }

// bytes returns the size of one load: a dword of indices, or two int8, for each of 16 rows.
func (f stored) bytes() int { return [...]int{64, 64, 32}[f] }

// pairs returns the number of pairs of columns in one load.
func (f stored) pairs() int { return [...]int{4, 8, 1}[f] }

// tables returns the number of vectors of int16 in the tables of a panel. The second table of 2-bit
// indices is for the second field, which saves every other shift.
func (f stored) tables() int { return [...]int{1, 2, 0}[f] }

// reader converts loads of one panel to pairs of weights.
type reader struct {
	f     stored
	table func(i int) Op
	order reg.VecVirtual // int8: permutation that makes the two columns of a row adjacent
	idx   reg.VecVirtual
}

// newOrder returns the permutation of int8 weights.
func (f stored) newOrder() reg.VecVirtual {
	if f != int8 {
		return nil
	}
	v := ZMM()
	VMOVDQU16(orderInt8(), v)
	return v
}

var orderData *Mem

// orderInt8 holds the words 0, 16, 1, 17 ... 15, 31.
func orderInt8() Mem {
	if orderData == nil {
		m := GLOBL("orderInt8", RODATA|NOPTR)
		for i := range 32 {
			DATA(2*i, U16(i/2+i%2*16))
		}
		orderData = &m
	}
	return *orderData
}

func (r *reader) load(m Mem) {
	if r.f == int8 {
		VPMOVSXBW(m, r.idx)
		return
	}
	VMOVDQU16(m, r.idx)
}

// take returns pair n of the load. It must be called in ascending order of n.
func (r *reader) take(n int, dst reg.VecVirtual) {
	switch {
	case r.f == int8:
		VPERMW(r.idx, r.order, dst)
	case r.f == lut4:
		if n > 0 {
			VPSRLW(Imm(4), r.idx, r.idx)
		}
		VPERMW(r.table(0), r.idx, dst)
	default:
		if n > 0 && n%2 == 0 {
			VPSRLW(Imm(4), r.idx, r.idx)
		}
		VPERMW(r.table(n%2), r.idx, dst)
	}
}

// widen writes a panel of stored weights as pairs of int16.
func widen(f stored) {
	name := "widenI16" + f.name() + "VNNI"
	TEXT(name, NOSPLIT, "func(dst *int16, src *byte, table *int16, loads int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s widens loads of %d columns; see widenI16Go.", name, 2*f.pairs()))
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	r := reader{f: f, order: f.newOrder(), idx: ZMM()}
	if f.tables() > 0 {
		at := Load(Param("table"), GP64())
		tables := simd.AVX512.Vectors(f.tables())
		for i, v := range tables {
			VMOVDQU16(Mem{Base: at, Disp: i * vector}, v)
		}
		r.table = func(i int) Op { return tables[i] }
	}
	loads := Load(Param("loads"), GP64())
	Label("loop")
	r.load(Mem{Base: src})
	for n := range f.pairs() {
		w := ZMM()
		r.take(n, w)
		VMOVDQU16(w, Mem{Base: dst, Disp: n * vector})
	}
	ADDQ(Imm(uint64(f.bytes())), src)
	ADDQ(I32(int32(f.pairs()*vector)), dst)
	DECQ(loads)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// sums ends the products of one block of columns: it converts acc to float32, multiplies it by the factor
// at scale, and stores it in c or adds it to c.
func sums(acc []reg.VecVirtual, factor reg.VecVirtual, c reg.Register, add bool) {
	for v := range acc {
		m := Mem{Base: c, Disp: v * vector}
		VCVTDQ2PS(acc[v], acc[v])
		VMULPS(factor, acc[v], acc[v])
		if add {
			VADDPS(m, acc[v], acc[v])
		}
		VMOVUPS(acc[v], m)
	}
}

// blocks writes a loop over blocks of scalePairs pairs, of which the last may be shorter. body writes
// the multiplication of count pairs, end the storing of the sums.
func blocks(pairs, add, scale reg.Register, rows int, body func(count reg.Register), end func(add bool)) {
	count := GP64()
	Label("block")
	MOVQ(pairs, count)
	CMPQ(count, Imm(scalePairs))
	JLE(LabelRef("whole"))
	MOVQ(U32(scalePairs), count)
	Label("whole")
	SUBQ(count, pairs)
	body(count)
	TESTQ(add, add)
	JZ(LabelRef("first"))
	end(true)
	JMP(LabelRef("stored"))
	Label("first")
	end(false)
	Label("stored")
	MOVQ(U32(1), add)
	ADDQ(Imm(uint64(4*rows)), scale)
	TESTQ(pairs, pairs)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// fused multiplies one row by panels of stored weights.
func fused(f stored, np int) {
	name := fmt.Sprintf("fusedI16%sVNNI_%d", f.name(), np)
	TEXT(name, NOSPLIT, "func(pairs int, x *int16, scale *float32, b *byte, ps int, table *int16, c *float32, add int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s is a fusedI16Func for %d panels.", name, np))
	pairs := Load(Param("pairs"), GP64())
	x := Load(Param("x"), GP64())
	scale := Load(Param("scale"), GP64())
	b := Load(Param("b"), GP64())
	panels := simd.NewStrided(b, Load(Param("ps"), GP64()), np)
	c := Load(Param("c"), GP64())
	add := Load(Param("add"), GP64())
	order := f.newOrder()
	table := Load(Param("table"), GP64())
	readers := make([]reader, np)
	for p := range readers {
		readers[p] = reader{f: f, order: order, idx: ZMM(), table: func(i int) Op {
			return Mem{Base: table, Disp: (p*f.tables() + i) * vector}
		}}
	}
	// Integers may be summed in any order: several sums for each panel make additions
	// independent of each other.
	sumsOf := max(1, 4/np)
	acc := simd.AVX512.Vectors(np * sumsOf)
	bc := ZMM()
	unroll := max(1, 4/f.pairs()) // int8: four loads at once
	step := func(u int) {
		for p := range readers {
			PREFETCHT0(panels.At(p, u*f.bytes()+simd.Ahead))
			readers[p].load(panels.At(p, u*f.bytes()))
		}
		for n := range f.pairs() {
			VPBROADCASTD(Mem{Base: x, Disp: 4 * (u*f.pairs() + n)}, bc)
			for p := range readers {
				w := ZMM()
				readers[p].take(n, w)
				VPDPWSSD(bc, w, acc[p+np*((u*f.pairs()+n)%sumsOf)])
			}
		}
	}
	advance := func(n int) {
		ADDQ(Imm(uint64(4*f.pairs()*n)), x)
		ADDQ(I32(int32(f.bytes()*n)), b)
	}
	blocks(pairs, add, scale, 1, func(count reg.Register) {
		for _, v := range acc {
			VPXORD(v, v, v)
		}
		if unroll > 1 {
			SUBQ(Imm(uint64(unroll)), count)
			JLT(LabelRef("rest"))
			Label("unrolled")
			for u := range unroll {
				step(u)
			}
			advance(unroll)
			SUBQ(Imm(uint64(unroll)), count)
			JGE(LabelRef("unrolled"))
			Label("rest")
			ADDQ(Imm(uint64(unroll)), count)
			JZ(LabelRef("multiplied"))
		}
		Label("loop")
		step(0)
		advance(1)
		SUBQ(Imm(uint64(f.pairs())), count)
		JNZ(LabelRef("loop"))
		Label("multiplied")
		for i := np; i < len(acc); i++ {
			VPADDD(acc[i], acc[i%np], acc[i%np])
		}
	}, func(add bool) {
		VBROADCASTSS(Mem{Base: scale}, bc)
		sums(acc[:np], bc, c, add)
	})
}

// newRows returns the sums of a strip of rows, one vector for each panel.
func newRows(mr, np int) [][]reg.VecVirtual {
	acc := make([][]reg.VecVirtual, mr)
	for r := range acc {
		acc[r] = simd.AVX512.Vectors(np)
	}
	return acc
}

// clearRows sets the sums of a strip to zero.
func clearRows(acc [][]reg.VecVirtual) {
	for r := range acc {
		for _, v := range acc[r] {
			VPXORD(v, v, v)
		}
	}
}

// rowSums is sums for a strip, whose rows of C are ldc bytes apart and whose factors are adjacent.
func rowSums(acc [][]reg.VecVirtual, scale, ldc reg.Register, factor reg.VecVirtual, add bool) {
	row := Load(Param("c"), GP64())
	for r := range acc {
		VBROADCASTSS(Mem{Base: scale, Disp: 4 * r}, factor)
		sums(acc[r], factor, row, add)
		if r < len(acc)-1 {
			ADDQ(ldc, row)
		}
	}
}

// strip multiplies a strip of rows by panels of stored weights. Weights are read while products are
// computed, so that neither waits for the other, as it does if they are widened first.
func strip(f stored, mr, np int) {
	name := fmt.Sprintf("stripI16%sVNNI_%dx%d", f.name(), mr, np)
	TEXT(name, NOSPLIT, "func(pairs int, a *int16, scale *float32, b *byte, ps int, table *int16, c *float32, ldc, add int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s is a stripI16Func: rows of A x panels of B.", name))
	pairs := Load(Param("pairs"), GP64())
	a := Load(Param("a"), GP64())
	scale := Load(Param("scale"), GP64())
	b := Load(Param("b"), GP64())
	panels := simd.NewStrided(b, Load(Param("ps"), GP64()), np)
	ldc := Load(Param("ldc"), GP64())
	SHLQ(Imm(2), ldc)
	add := Load(Param("add"), GP64())
	order := f.newOrder()
	table := Load(Param("table"), GP64())
	readers := make([]reader, np)
	for p := range readers {
		readers[p] = reader{f: f, order: order, idx: ZMM(), table: func(i int) Op {
			return Mem{Base: table, Disp: (p*f.tables() + i) * vector}
		}}
	}
	acc := newRows(mr, np)
	weights := simd.AVX512.Vectors(np)
	bc := ZMM()
	blocks(pairs, add, scale, mr, func(count reg.Register) {
		clearRows(acc)
		Label("loop")
		for p := range readers {
			PREFETCHT0(panels.At(p, simd.Ahead))
			readers[p].load(panels.At(p, 0))
		}
		for n := range f.pairs() {
			for p := range readers {
				readers[p].take(n, weights[p])
			}
			for r := range mr {
				VPBROADCASTD(Mem{Base: a, Disp: 4 * (n*mr + r)}, bc)
				for p := range readers {
					VPDPWSSD(bc, weights[p], acc[r][p])
				}
			}
		}
		ADDQ(I32(int32(4*mr*f.pairs())), a)
		ADDQ(Imm(uint64(f.bytes())), b)
		SUBQ(Imm(uint64(f.pairs())), count)
		JNZ(LabelRef("loop"))
	}, func(add bool) { rowSums(acc, scale, ldc, bc, add) })
}

// microkernel multiplies a strip of rows by panels of pairs.
func microkernel(mr, np int) {
	name := fmt.Sprintf("gemmI16VNNI_%dx%d", mr, np)
	TEXT(name, NOSPLIT, "func(pairs int, a *int16, scale *float32, b *int16, ps int, c *float32, ldc, add int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s is a gemmI16Func: rows of A x panels of B.", name))
	pairs := Load(Param("pairs"), GP64())
	a := Load(Param("a"), GP64())
	scale := Load(Param("scale"), GP64())
	b := Load(Param("b"), GP64())
	ps := Load(Param("ps"), GP64())
	ADDQ(ps, ps)
	panels := simd.NewStrided(b, ps, np)
	ldc := Load(Param("ldc"), GP64())
	SHLQ(Imm(2), ldc)
	add := Load(Param("add"), GP64())
	acc := newRows(mr, np)
	bv := simd.AVX512.Vectors(np)
	bc := ZMM()
	blocks(pairs, add, scale, mr, func(count reg.Register) {
		clearRows(acc)
		Label("loop")
		for v := range bv {
			VMOVDQU16(panels.At(v, 0), bv[v])
		}
		for r := range mr {
			VPBROADCASTD(Mem{Base: a, Disp: 4 * r}, bc)
			for v := range bv {
				VPDPWSSD(bc, bv[v], acc[r][v])
			}
		}
		ADDQ(Imm(uint64(4*mr)), a)
		ADDQ(Imm(vector), b)
		DECQ(count)
		JNZ(LabelRef("loop"))
	}, func(add bool) { rowSums(acc, scale, ldc, bc, add) })
}
