package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

// sums holds the sixteen float64 lanes of a reduction in registers.
type sums struct {
	t   *simd.Target
	at  reg.Register
	acc []reg.VecVirtual
}

// newSums loads the lanes from the parameter total.
func newSums(t *simd.Target) sums {
	s := sums{t: t, at: Load(Param("total"), GP64()), acc: t.Vectors(2 * t.PerPanel())}
	for i, v := range s.acc {
		VMOVUPD(Mem{Base: s.at, Disp: i * t.Bytes}, v)
	}
	return s
}

// widened returns the lower and upper halves of x as float64.
func (s sums) widened(x reg.VecVirtual) (lo, hi reg.VecVirtual) {
	lo, hi = s.t.Vec(), s.t.Vec()
	if s.t == simd.AVX512 {
		upper := YMM()
		VEXTRACTF64X4(Imm(1), x, upper)
		VCVTPS2PD(x.AsY(), lo)
		VCVTPS2PD(upper, hi)
	} else {
		upper := XMM()
		VEXTRACTF128(Imm(1), x, upper)
		VCVTPS2PD(x.AsX(), lo)
		VCVTPS2PD(upper, hi)
	}
	return lo, hi
}

// add adds vector i of a group of 16.
func (s sums) add(i int, x reg.VecVirtual) {
	lo, hi := s.widened(x)
	VADDPD(lo, s.acc[2*i], s.acc[2*i])
	VADDPD(hi, s.acc[2*i+1], s.acc[2*i+1])
}

// addSquares adds x² of vector i; the squares are exact as float64.
func (s sums) addSquares(i int, x reg.VecVirtual) {
	lo, hi := s.widened(x)
	VFMADD231PD(lo, lo, s.acc[2*i])
	VFMADD231PD(hi, hi, s.acc[2*i+1])
}

// addProducts adds x·y of vector i; the products are exact as float64.
func (s sums) addProducts(i int, x, y reg.VecVirtual) {
	xl, xh := s.widened(x)
	yl, yh := s.widened(y)
	VFMADD231PD(xl, yl, s.acc[2*i])
	VFMADD231PD(xh, yh, s.acc[2*i+1])
}

func (s sums) store() {
	for i, v := range s.acc {
		VMOVUPD(v, Mem{Base: s.at, Disp: i * s.t.Bytes})
	}
}

// klSum adds the terms of the Kullback-Leibler divergence; see klSumGo.
func klSum(t *simd.Target) {
	g := begin(t, "klSum", "p, q *float32, c *float32, n int, total *[16]float64", "p", "q")
	sum := newSums(t)
	c := Load(Param("c"), GP64())
	field := func(i int) reg.VecVirtual { return broadcast(t, Mem{Base: c, Disp: 4 * i}) }
	g.each(func(i, disp int) {
		ep, eq := g.load(0, disp), g.load(1, disp)
		d := t.Vec()
		VSUBPS(eq, ep, d)
		VSUBPS(field(4), d, d)
		for f, v := range []reg.VecVirtual{ep, eq} {
			VSUBPS(field(2*f), v, v)
			VSUBPS(field(2*f+1), v, v)
			exp(t, v)
		}
		far, h, near := t.Vec(), t.Vec(), t.Vec()
		VSUBPS(loaded(t, one), d, far)
		VFMADD213PS(eq, ep, far)
		VMOVUPS(constant(k9), h)
		for k := k8; k >= k2; k-- {
			VFMADD213PS(constant(k), d, h)
		}
		VMULPS(d, d, near)
		VMULPS(ep, near, near)
		VMULPS(h, near, near)
		VANDPS(constant(notSign), d, d)
		zero := t.Vec()
		t.Zero(zero)
		if t == simd.AVX512 {
			k := K()
			VCMPPS(Imm(2), constant(half), d, k)
			VMOVAPS(near, k, far)
			none := K()
			VCMPPS(Imm(0), zero, ep, none)
			VMOVAPS(eq, none, far)
		} else {
			VCMPPS(Imm(2), constant(half), d, d)
			VBLENDVPS(d, near, far, far)
			VCMPPS(Imm(0), zero, ep, ep)
			VBLENDVPS(ep, eq, far, far)
		}
		sum.add(i, far)
	})
	sum.store()
	end()
}
