package main

// group is a kernel that processes groups of 16 elements, which are four vectors.
type group struct {
	*function
	ptrs  []R
	n     R
	table R // the constants, after useConstants
}

// beginGroup starts a kernel over slices of n elements each, given by the names of their pointers.
func beginGroup(o *file, name, params string, slices ...string) *group {
	g := &group{function: o.begin(name+"NEON", params, "",
		"works on n elements, a positive multiple of 16; see "+name+"Go.")}
	for _, s := range slices {
		g.ptrs = append(g.ptrs, g.arg(s))
	}
	g.n = g.arg("n")
	return g
}

// useConstants loads the address of the constants.
func (g *group) useConstants() {
	g.table = g.reg()
	g.op("MOVD", "$"+constantTable+"(SB)", g.table)
}

// each writes the loop over groups; body writes the code for one group.
func (g *group) each(body func()) {
	g.loop("loop", g.n, 16, func() {
		body()
		g.add(64, g.ptrs...)
	})
}

// read loads the current group of slice ptr.
func (g *group) read(ptr int) []V {
	v := g.vecs(4)
	g.loads(v, g.ptrs[ptr], 0)
	return v
}

func (g *group) write(v []V, ptr int) { g.stores(v, g.ptrs[ptr], 0) }

// maxima holds the running maxima of the 16 lanes.
type maxima struct {
	g   *group
	at  R
	top []V
	is  V
}

func newMaxima(g *group) maxima {
	m := maxima{g: g, at: g.arg("maxes"), top: g.vecs(4), is: g.vec()}
	g.loads(m.top, m.at, 0)
	return m
}

// raise replaces the maxima by the larger of themselves and x; a NaN in x is ignored.
func (m maxima) raise(x []V) {
	for i, v := range x {
		m.g.fcmgt(m.is, v, m.top[i])
		m.g.bit(m.top[i], v, m.is)
	}
}

func (m maxima) store() { m.g.stores(m.top, m.at, 0) }

func maxOf(o *file) {
	g := beginGroup(o, "maxOf", "x *float32, n int, maxes *[16]float32", "x")
	m := newMaxima(g)
	x := g.vecs(4)
	g.each(func() {
		g.loads(x, g.ptrs[0], 0)
		m.raise(x)
	})
	m.store()
	g.ret()
}

func scaleMax(o *file) {
	g := beginGroup(o, "scaleMax", "x *float32, scale float32, n int, maxes *[16]float32", "x")
	m := newMaxima(g)
	scale := g.broadcast("scale")
	g.each(func() {
		x := g.read(0)
		for _, v := range x {
			g.fmul(v, v, scale)
		}
		g.write(x, 0)
		m.raise(x)
	})
	m.store()
	g.ret()
}

func expSum(o *file, keep bool) {
	name := "sumExp"
	if keep {
		name = "expSum"
	}
	g := beginGroup(o, name, "x *float32, sub float32, n int, total *[16]float64", "x")
	g.useConstants()
	sum := newSums(g)
	sub := g.broadcast("sub")
	g.each(func() {
		x := g.read(0)
		for _, v := range x {
			g.fsub(v, v, sub)
		}
		g.exp(x)
		if keep {
			g.write(x, 0)
		}
		for i, v := range x {
			sum.add(i, v)
		}
	})
	sum.store()
	g.ret()
}

func sumSquares(o *file) {
	g := beginGroup(o, "sumSquares", "x *float32, n int, total *[16]float64", "x")
	sum := newSums(g)
	g.each(func() {
		for i, v := range g.read(0) {
			sum.addSquares(i, v)
		}
	})
	sum.store()
	g.ret()
}

func dotSum(o *file) {
	g := beginGroup(o, "dotSum", "x, y *float32, n int, total *[16]float64", "x", "y")
	sum := newSums(g)
	g.each(func() {
		x, y := g.read(0), g.read(1)
		for i := range x {
			sum.addProducts(i, x[i], y[i])
		}
	})
	sum.store()
	g.ret()
}

// inPlace writes a kernel that modifies its first slice element by element. op receives vectors of the
// slices, of which it modifies the first, and the register of the factor.
func inPlace(o *file, name, params, factor string, slices []string, op func(g *group, v []V, factor V)) {
	g := beginGroup(o, name, params, slices...)
	var f V
	if factor != "" {
		f = g.broadcast(factor)
	}
	g.each(func() {
		var read [][]V
		for i := range slices {
			read = append(read, g.read(i))
		}
		for i := range 4 {
			var v []V
			for _, r := range read {
				v = append(v, r[i])
			}
			op(g, v, f)
		}
		g.write(read[0], 0)
	})
	g.ret()
}

func mulScalar(o *file) {
	inPlace(o, "mulScalar", "x *float32, s float32, n int", "s", []string{"x"},
		func(g *group, v []V, s V) { g.fmul(v[0], v[0], s) })
}

func addTo(o *file) {
	inPlace(o, "addTo", "dst, x *float32, n int", "", []string{"dst", "x"},
		func(g *group, v []V, _ V) { g.fadd(v[0], v[0], v[1]) })
}

func addScaled(o *file) {
	inPlace(o, "addScaled", "dst, x *float32, s float32, n int", "s", []string{"dst", "x"},
		func(g *group, v []V, s V) { g.fmla(v[0], v[1], s) })
}

func mulTo(o *file) {
	inPlace(o, "mulTo", "dst, x *float32, n int", "", []string{"dst", "x"},
		func(g *group, v []V, _ V) { g.fmul(v[0], v[0], v[1]) })
}

func subMul(o *file) {
	inPlace(o, "subMul", "dst, x *float32, s float32, n int", "s", []string{"dst", "x"},
		func(g *group, v []V, s V) {
			g.fsub(v[0], v[0], s)
			g.fmul(v[0], v[0], v[1])
		})
}

func normMul(o *file) {
	g := beginGroup(o, "normMul", "dst, x, w *float32, inv float32, n int", "dst", "x", "w")
	inv := g.broadcast("inv")
	g.each(func() {
		x, w := g.read(1), g.read(2)
		for i := range x {
			g.fmul(x[i], x[i], inv)
			g.fmul(x[i], x[i], w[i])
		}
		g.write(x, 0)
	})
	g.ret()
}

func rotate(o *file) {
	g := beginGroup(o, "rotate", "lo, hi, cos, sin *float32, n int", "lo", "hi", "cos", "sin")
	bs, as := g.vec(), g.vec()
	g.each(func() {
		a, b, c, s := g.read(0), g.read(1), g.read(2), g.read(3)
		for i := range a {
			g.fmul(bs, b[i], s[i])
			g.fmul(as, a[i], s[i])
			g.fmul(a[i], a[i], c[i])
			g.fmul(b[i], b[i], c[i])
			g.fsub(a[i], a[i], bs)
			g.fadd(b[i], b[i], as)
		}
		g.write(a, 0)
		g.write(b, 1)
	})
	g.ret()
}

// onePlusExpMinus returns 1 + e^−x for each of x, and a register with 1 in every lane.
func (g *group) onePlusExpMinus(x []V) (s []V, unit V) {
	s = g.vecs(len(x))
	for i, v := range x {
		g.fneg(s[i], v)
	}
	g.exp(s)
	unit = g.constant(g.vec(), one)
	for _, v := range s {
		g.fadd(v, v, unit)
	}
	return s, unit
}

func siluMul(o *file) {
	g := beginGroup(o, "siluMul", "dst, gate, up *float32, n int", "dst", "gate", "up")
	g.useConstants()
	g.each(func() {
		x := g.read(1)
		s, _ := g.onePlusExpMinus(x)
		up := g.read(2)
		for i := range x {
			g.fdiv(x[i], x[i], s[i])
			g.fmul(x[i], x[i], up[i])
		}
		g.write(x, 0)
	})
	g.ret()
}

// siluMulBack uses s = 1/(1+e^-g) and silu' = s·(1 + g·(1-s)).
func siluMulBack(o *file) {
	g := beginGroup(o, "siluMulBack", "gate, up, grad *float32, n int", "gate", "up", "grad")
	g.useConstants()
	g.each(func() {
		x := g.read(0)
		s, unit := g.onePlusExpMinus(x)
		u, d, slope := g.read(1), g.read(2), g.vec()
		for i := range x {
			g.fdiv(s[i], unit, s[i])
			g.fmul(u[i], u[i], d[i])
			g.fsub(slope, unit, s[i])
			g.fmul(slope, slope, x[i])
			g.fadd(slope, slope, unit)
			g.fmul(slope, slope, s[i])
			g.fmul(u[i], u[i], slope)
			g.fmul(s[i], s[i], x[i])
			g.fmul(d[i], d[i], s[i])
		}
		g.write(u, 0)
		g.write(d, 1)
	})
	g.ret()
}
