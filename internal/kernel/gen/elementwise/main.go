// Command elementwise writes the amd64 kernels of softmax, log-sum-exp, KL, RMSNorm, SwiGLU, rotary
// embedding and addition. Every kernel processes groups of 16 elements, in the order of operations of
// its Go twin.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"afmq/internal/kernel/gen/simd"
)

func main() {
	writeConstants()
	for _, t := range simd.Targets {
		maxOf(t)
		scaleMax(t)
		expSum(t, true)
		expSum(t, false)
		klSum(t)
		sumSquares(t)
		mulScalar(t)
		normMul(t)
		siluMul(t)
		rotate(t)
		addTo(t)
		addScaled(t)
		siluMulBack(t)
		dotSum(t)
		mulTo(t)
		subMul(t)
	}
	Generate()
}

// group is a kernel that processes groups of 16 elements.
type group struct {
	t    *simd.Target
	ptrs []reg.Register
	n    reg.Register
}

// begin starts a kernel over slices of n elements each, given by the names of their pointers.
func begin(t *simd.Target, name, params string, slices ...string) group {
	TEXT(name+t.Name, NOSPLIT, "func("+params+")")
	Pragma("noescape")
	Doc(name + t.Name + " processes n elements, a positive multiple of 16; see " + name + "Go.")
	g := group{t: t}
	for _, s := range slices {
		g.ptrs = append(g.ptrs, Load(Param(s), GP64()))
	}
	g.n = Load(Param("n"), GP64())
	return g
}

// each writes the loop over groups. body receives the index and the byte offset of each vector.
func (g group) each(body func(i, disp int)) {
	Label("loop")
	for i := range g.t.PerPanel() {
		body(i, i*g.t.Bytes)
	}
	for _, p := range g.ptrs {
		ADDQ(Imm(64), p)
	}
	SUBQ(Imm(16), g.n)
	JNZ(LabelRef("loop"))
}

func (g group) at(ptr, disp int) Mem { return Mem{Base: g.ptrs[ptr], Disp: disp} }

// load returns the vector of slice ptr.
func (g group) load(ptr, disp int) reg.VecVirtual {
	v := g.t.Vec()
	VMOVUPS(g.at(ptr, disp), v)
	return v
}

func end() {
	VZEROUPPER()
	RET()
}

// broadcast returns the float32 at m in every lane.
func broadcast(t *simd.Target, m Mem) reg.VecVirtual {
	v := t.Vec()
	VBROADCASTSS(m, v)
	return v
}

func param(name string) Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// maxima loads the running maxima of the 16 lanes.
func maxima(t *simd.Target, at reg.Register) []reg.VecVirtual {
	top := t.Vectors(t.PerPanel())
	for i, v := range top {
		VMOVUPS(Mem{Base: at, Disp: i * t.Bytes}, v)
	}
	return top
}

// raise replaces top by the larger of top and x in each lane; a NaN in x is ignored.
func raise(x, top reg.VecVirtual) { VMAXPS(top, x, top) }

func storeMaxima(t *simd.Target, top []reg.VecVirtual, at reg.Register) {
	for i, v := range top {
		VMOVUPS(v, Mem{Base: at, Disp: i * t.Bytes})
	}
}

func maxOf(t *simd.Target) {
	g := begin(t, "maxOf", "x *float32, n int, maxes *[16]float32", "x")
	at := Load(Param("maxes"), GP64())
	top := maxima(t, at)
	g.each(func(i, disp int) { raise(g.load(0, disp), top[i]) })
	storeMaxima(t, top, at)
	end()
}

func scaleMax(t *simd.Target) {
	g := begin(t, "scaleMax", "x *float32, scale float32, n int, maxes *[16]float32", "x")
	at := Load(Param("maxes"), GP64())
	top := maxima(t, at)
	scale := broadcast(t, param("scale"))
	g.each(func(i, disp int) {
		x := g.load(0, disp)
		VMULPS(scale, x, x)
		VMOVUPS(x, g.at(0, disp))
		raise(x, top[i])
	})
	storeMaxima(t, top, at)
	end()
}

func expSum(t *simd.Target, store bool) {
	name := "sumExp"
	if store {
		name = "expSum"
	}
	g := begin(t, name, "x *float32, sub float32, n int, total *[16]float64", "x")
	sum := newSums(t)
	sub := broadcast(t, param("sub"))
	g.each(func(i, disp int) {
		x := g.load(0, disp)
		VSUBPS(sub, x, x)
		exp(t, x)
		if store {
			VMOVUPS(x, g.at(0, disp))
		}
		sum.add(i, x)
	})
	sum.store()
	end()
}

func sumSquares(t *simd.Target) {
	g := begin(t, "sumSquares", "x *float32, n int, total *[16]float64", "x")
	sum := newSums(t)
	g.each(func(i, disp int) { sum.addSquares(i, g.load(0, disp)) })
	sum.store()
	end()
}

func mulScalar(t *simd.Target) {
	g := begin(t, "mulScalar", "x *float32, s float32, n int", "x")
	s := broadcast(t, param("s"))
	g.each(func(_, disp int) {
		x := g.load(0, disp)
		VMULPS(s, x, x)
		VMOVUPS(x, g.at(0, disp))
	})
	end()
}

func normMul(t *simd.Target) {
	g := begin(t, "normMul", "dst, x, w *float32, inv float32, n int", "dst", "x", "w")
	inv := broadcast(t, param("inv"))
	g.each(func(_, disp int) {
		x := g.load(1, disp)
		VMULPS(inv, x, x)
		VMULPS(g.at(2, disp), x, x)
		VMOVUPS(x, g.at(0, disp))
	})
	end()
}

func siluMul(t *simd.Target) {
	g := begin(t, "siluMul", "dst, gate, up *float32, n int", "dst", "gate", "up")
	g.each(func(_, disp int) {
		x := g.load(1, disp)
		e := t.Vec()
		VXORPS(constant(signBit), x, e)
		exp(t, e)
		VADDPS(constant(one), e, e)
		VDIVPS(e, x, x)
		VMULPS(g.at(2, disp), x, x)
		VMOVUPS(x, g.at(0, disp))
	})
	end()
}

func rotate(t *simd.Target) {
	g := begin(t, "rotate", "lo, hi, cos, sin *float32, n int", "lo", "hi", "cos", "sin")
	g.each(func(_, disp int) {
		a, b, c, s := g.load(0, disp), g.load(1, disp), g.load(2, disp), g.load(3, disp)
		ac, bs, bc, as := t.Vec(), t.Vec(), t.Vec(), t.Vec()
		VMULPS(c, a, ac)
		VMULPS(s, b, bs)
		VMULPS(c, b, bc)
		VMULPS(s, a, as)
		VSUBPS(bs, ac, ac)
		VADDPS(as, bc, bc)
		VMOVUPS(ac, g.at(0, disp))
		VMOVUPS(bc, g.at(1, disp))
	})
	end()
}

func addTo(t *simd.Target) {
	g := begin(t, "addTo", "dst, x *float32, n int", "dst", "x")
	g.each(func(_, disp int) {
		v := g.load(0, disp)
		VADDPS(g.at(1, disp), v, v)
		VMOVUPS(v, g.at(0, disp))
	})
	end()
}

func addScaled(t *simd.Target) {
	g := begin(t, "addScaled", "dst, x *float32, s float32, n int", "dst", "x")
	s := broadcast(t, param("s"))
	g.each(func(_, disp int) {
		v := g.load(0, disp)
		VFMADD231PS(g.at(1, disp), s, v)
		VMOVUPS(v, g.at(0, disp))
	})
	end()
}

// siluMulBack uses s = 1/(1+e^-g) and silu' = s·(1 + g·(1-s)).
func siluMulBack(t *simd.Target) {
	g := begin(t, "siluMulBack", "gate, up, grad *float32, n int", "gate", "up", "grad")
	g.each(func(_, disp int) {
		x, u, d := g.load(0, disp), g.load(1, disp), g.load(2, disp)
		s := t.Vec()
		VXORPS(constant(signBit), x, s)
		exp(t, s)
		VADDPS(constant(one), s, s)
		slope := loaded(t, one)
		sig, silu := t.Vec(), t.Vec()
		VDIVPS(s, slope, sig)
		VMULPS(sig, x, silu)
		VMULPS(d, u, u)
		VSUBPS(sig, slope, slope)
		VMULPS(x, slope, slope)
		VADDPS(constant(one), slope, slope)
		VMULPS(sig, slope, slope)
		VMULPS(slope, u, u)
		VMULPS(silu, d, d)
		VMOVUPS(u, g.at(0, disp))
		VMOVUPS(d, g.at(1, disp))
	})
	end()
}

func dotSum(t *simd.Target) {
	g := begin(t, "dotSum", "x, y *float32, n int, total *[16]float64", "x", "y")
	sum := newSums(t)
	g.each(func(i, disp int) { sum.addProducts(i, g.load(0, disp), g.load(1, disp)) })
	sum.store()
	end()
}

func mulTo(t *simd.Target) {
	g := begin(t, "mulTo", "dst, x *float32, n int", "dst", "x")
	g.each(func(_, disp int) {
		v := g.load(0, disp)
		VMULPS(g.at(1, disp), v, v)
		VMOVUPS(v, g.at(0, disp))
	})
	end()
}

func subMul(t *simd.Target) {
	g := begin(t, "subMul", "dst, x *float32, s float32, n int", "dst", "x")
	s := broadcast(t, param("s"))
	g.each(func(_, disp int) {
		v := g.load(0, disp)
		VSUBPS(s, v, v)
		VMULPS(g.at(1, disp), v, v)
		VMOVUPS(v, g.at(0, disp))
	})
	end()
}
