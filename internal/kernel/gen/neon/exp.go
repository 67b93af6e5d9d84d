package main

import (
	"fmt"
	"math"
)

// The constants, each four times in memory. The Go twins, exp32 and klSumGo, document their meaning.
const (
	expMin = iota
	expMax
	log2e
	ln2Hi
	ln2Lo
	c2
	c3
	c4
	c5
	c6
	one
	bias // 127 as an integer
	half
	k2 // 1/2!, −1/3!, …, −1/9!
	k3
	k4
	k5
	k6
	k7
	k8
	k9
)

var constants = map[int]float32{
	expMin: -104, expMax: 89, log2e: 1.44269504088896341,
	ln2Hi: 0x1.62e43p-1, ln2Lo: -0x1.05c610ca86c39p-29,
	c2: 0.4999999403953552, c3: 0.1666652113199234, c4: 0.04166838899254799,
	c5: 0.00836874544620514, c6: 0.0013814540579915047,
	one: 1, bias: math.Float32frombits(127), half: 0.5,
	k2: 1. / 2, k3: -1. / 6, k4: 1. / 24, k5: -1. / 120, k6: 1. / 720, k7: -1. / 5040,
	k8: 1. / 40320, k9: -1. / 362880,
}

const constantTable = "elementwiseConstants<>"

// writeConstants writes the table of constants.
func (f *file) writeConstants() {
	fmt.Fprintln(&f.text)
	for c := range len(constants) {
		bits := uint64(math.Float32bits(constants[c]))
		for i := range 2 {
			fmt.Fprintf(&f.text, "DATA %s+%d(SB)/8, $%#016x\n", constantTable, c*16+8*i, bits<<32|bits)
		}
	}
	fmt.Fprintf(&f.text, "GLOBL %s(SB), RODATA|NOPTR, $%d\n", constantTable, 16*len(constants))
}

// constant reads a constant into a register.
func (g *group) constant(v V, c int) V {
	g.load(v, g.table, 16*c)
	return v
}

// exp replaces all of x by their exponentials, with the instructions of the vectors interleaved; see
// exp32.
func (g *group) exp(x []V) {
	n, q, s := g.vecs(len(x)), g.vecs(len(x)), g.vecs(len(x))
	c := g.vec()
	each := func(f func(i int)) {
		for i := range x {
			f(i)
		}
	}
	g.constant(c, expMin)
	each(func(i int) { g.fmax(x[i], x[i], c) })
	g.constant(c, expMax)
	each(func(i int) { g.fmin(x[i], x[i], c) })
	g.constant(c, log2e)
	each(func(i int) { g.fmul(n[i], x[i], c) })
	each(func(i int) { g.frintn(n[i], n[i]) })
	for _, k := range []int{ln2Hi, ln2Lo} { // x becomes r
		g.constant(c, k)
		each(func(i int) { g.fmls(x[i], n[i], c) })
	}
	each(func(i int) { g.constant(q[i], c6) })
	for _, k := range []int{c5, c4, c3, c2} {
		each(func(i int) {
			g.constant(s[i], k)
			g.fmla(s[i], q[i], x[i])
		})
		q, s = s, q
	}
	each(func(i int) {
		g.fmul(s[i], x[i], x[i])
		g.fmla(x[i], q[i], s[i])
	})
	g.constant(c, one)
	each(func(i int) { g.fadd(x[i], x[i], c) })
	// 2^n as two factors, whose exponent bits are computed.
	g.constant(c, bias)
	each(func(i int) {
		g.fcvtns(n[i], n[i])
		g.sshr(q[i], n[i], 1)
		g.subInt(n[i], n[i], q[i])
		for _, v := range []V{q[i], n[i]} {
			g.addInt(v, v, c)
			g.shl(v, v, 23)
		}
		g.fmul(x[i], x[i], q[i])
		g.fmul(x[i], x[i], n[i])
	})
	g.drop(c)
	for _, v := range [][]V{n, q, s} {
		g.drop(v...)
	}
}
