package main

import "fmt"

// dense is a format without look-up tables.
type dense int

const (
	f16 dense = iota
	bf16
	int8
)

func (d dense) name() string { return [...]string{"F16", "BF16", "Int8"}[d] }

// bytes returns the size of one weight.
func (d dense) bytes() int { return [...]int{2, 2, 1}[d] }

// reader widens rows of 16 dense weights.
type reader struct {
	fn    *function
	dense dense
	raw   []V
	aside []V // bf16: zeros; int8: the source bytes of each vector
}

func newReader(fn *function, d dense) reader {
	r := reader{fn: fn, dense: d}
	switch d {
	case f16:
		r.raw = fn.vecs(2)
	case bf16:
		r.raw, r.aside = fn.vecs(2), fn.zeros(1)
	case int8:
		// Move a byte to the top of its lane, clear the other bytes, and convert the lane as a
		// fixed-point integer with 24 fraction bits.
		r.raw, r.aside = fn.vecs(1), fn.vecs(4)
		for i, v := range r.aside {
			fn.dupImm(v, 0x00ffffff)
			lane := fn.reg()
			for j := range 4 {
				fn.op("MOVD", imm(4*i+j), lane)
				fn.op("VMOV", lane, fmt.Sprintf("V%d.B[%d]", v, 4*j+3))
			}
			delete(fn.rBusy, lane)
		}
	}
	return r
}

// read widens 16 weights to the four vectors w, without the factors of rows.
func (r reader) read(w []V, base R, offset int) {
	fn := r.fn
	fn.loads(r.raw, base, offset)
	switch r.dense {
	case f16:
		fn.widenHalves(w, r.raw[0], r.raw[1])
	case bf16: // the upper half of a float32 whose lower half is zero
		for i, raw := range r.raw {
			fn.zip1("H8", w[2*i], r.aside[0], raw)
			fn.zip2("H8", w[2*i+1], r.aside[0], raw)
		}
	case int8:
		for i, v := range w {
			fn.tbl(v, r.raw[0], r.aside[i])
			fn.fromFixed(v, v, 24)
		}
	}
}

// widenHalves widens 16 float16.
func (fn *function) widenHalves(w []V, lo, hi V) {
	fn.fcvtlHalf(w[0], lo)
	fn.fcvtl2Half(w[1], lo)
	fn.fcvtlHalf(w[2], hi)
	fn.fcvtl2Half(w[3], hi)
}

// widen writes a panel [n/16][16] of dense weights as float32.
func widen(o *file, d dense) {
	elem, scale := "uint16", ""
	if d == int8 {
		elem, scale = "int8", ", scale *float32"
	}
	fn := o.begin("widen"+d.name()+"NEON", "dst *float32, src *"+elem+scale+", n int", "",
		"widens n weights, a positive multiple of 16; see widen"+d.name()+"Go.")
	dst, src, n := fn.arg("dst"), fn.arg("src"), fn.arg("n")
	var factor []V
	if d == int8 {
		factor = fn.vecs(4)
		fn.loads(factor, fn.arg("scale"), 0)
	}
	r, w := newReader(fn, d), fn.vecs(4)
	fn.loop("loop", n, panelRows, func() {
		r.read(w, src, 0)
		for i, f := range factor {
			fn.fmul(w[i], w[i], f)
		}
		fn.stores(w, dst, 0)
		fn.add(panelRows*d.bytes(), src)
		fn.add(panelStep, dst)
	})
	fn.ret()
}

// narrowF16 rounds to half precision.
func narrowF16(o *file) {
	fn := o.begin("narrowF16NEON", "dst *uint16, src *float32, n int", "",
		"rounds n values, a positive multiple of 16; see narrowF16Go.")
	dst, src, n := fn.arg("dst"), fn.arg("src"), fn.arg("n")
	v, h := fn.vecs(4), fn.vecs(2)
	fn.loop("loop", n, 16, func() {
		fn.loads(v, src, 0)
		fn.narrowHalves(h, v)
		fn.stores(h, dst, 0)
		fn.add(64, src)
		fn.add(32, dst)
	})
	fn.ret()
}

// narrowHalves rounds 16 float32 to float16.
func (fn *function) narrowHalves(h, v []V) {
	for i := range h {
		fn.fcvtnHalf(h[i], v[2*i])
		fn.fcvtn2Half(h[i], v[2*i+1])
	}
}

// narrowBF16 rounds to bfloat16 with integer arithmetic: it adds 0x7fff, plus 1 if the last bit that
// stays is odd, and takes the upper half.
func narrowBF16(o *file) {
	fn := o.begin("narrowBF16NEON", "dst *uint16, src *float32, n int", "",
		"rounds n values, a positive multiple of 16; see narrowBF16Go.")
	dst, src, n := fn.arg("dst"), fn.arg("src"), fn.arg("n")
	half, one, quiet := fn.vec(), fn.vec(), fn.vec()
	fn.dupImm(half, 0x7fff)
	fn.dupImm(one, 1)
	fn.dupImm(quiet, 0x400000)
	v, sum, odd, number := fn.vecs(4), fn.vecs(4), fn.vec(), fn.vecs(4)
	fn.loop("loop", n, 16, func() {
		fn.loads(v, src, 0)
		for i := range v {
			fn.ushr(odd, v[i], 16)
			fn.and(odd, odd, one)
			fn.addInt(sum[i], v[i], half)
			fn.addInt(sum[i], sum[i], odd)
			fn.fcmeq(number[i], v[i], v[i])
			fn.orr(v[i], v[i], quiet)
			fn.bsl(number[i], sum[i], v[i])
		}
		fn.uzp2("H8", v[0], number[0], number[1])
		fn.uzp2("H8", v[1], number[2], number[3])
		fn.stores(v[:2], dst, 0)
		fn.add(64, src)
		fn.add(32, dst)
	})
	fn.ret()
}
