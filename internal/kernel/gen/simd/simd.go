// Package simd has the code common to the generators for amd64: the two instruction sets, and the
// addressing of panels of weights.
package simd

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// PanelRows is the number of weight rows in a panel.
const PanelRows = 16

// Ahead is the prefetch distance, in bytes, for weights in the product of one row: the kernel reads
// several panels at the same time, which the hardware prefetcher follows too late. (Measured on a
// Xeon: 82 % of the rate of a read loop without prefetching, 105 % with it.)
const Ahead = 1024

// Target is an instruction set.
type Target struct {
	Name  string
	Bytes int // of a vector
	Vec   func() reg.VecVirtual
}

// The targets, widest first.
var (
	AVX512 = &Target{"AVX512", 64, ZMM}
	AVX2   = &Target{"AVX2", 32, YMM}
)

// Targets lists all targets.
var Targets = []*Target{AVX512, AVX2}

// Lanes returns how many float32 a vector holds.
func (t *Target) Lanes() int { return t.Bytes / 4 }

// PerPanel returns the number of vectors in one row of a panel.
func (t *Target) PerPanel() int { return PanelRows / t.Lanes() }

// Vectors returns n registers.
func (t *Target) Vectors(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = t.Vec()
	}
	return v
}

// Zero sets v to zero.
func (t *Target) Zero(v reg.VecVirtual) {
	if t == AVX512 {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

// Zeros returns n registers set to zero.
func (t *Target) Zeros(n int) []reg.VecVirtual {
	v := t.Vectors(n)
	for _, r := range v {
		t.Zero(r)
	}
	return v
}

// Strided addresses panels that are ps bytes apart, relative to one moving base. The odd multiples of
// ps, which scaled indices cannot express, are in registers.
type Strided struct {
	base reg.Register
	odd  [8]reg.Register
}

// NewStrided returns the addressing of the given number of panels, at most 8.
func NewStrided(base, ps reg.Register, panels int) Strided {
	s := Strided{base: base}
	s.odd[1] = ps
	for p := 3; p < panels; p += 2 {
		r := GP64()
		IMUL3Q(U8(p), ps, r)
		s.odd[p] = r
	}
	return s
}

// At returns the operand disp bytes from the base, in the given panel.
func (s Strided) At(panel, disp int) Mem {
	if panel == 0 {
		return Mem{Base: s.base, Disp: disp}
	}
	scale := 1
	for panel%2 == 0 {
		panel, scale = panel/2, scale*2
	}
	return Mem{Base: s.base, Index: s.odd[panel], Scale: uint8(scale), Disp: disp}
}

// StoreSums ends a product: it stores the rows of acc in rows of C that are ldc bytes apart (ldc may be
// nil for one row), or adds them to C if add is not zero.
func (t *Target) StoreSums(acc [][]reg.VecVirtual, c, ldc, add reg.Register) {
	store := func(sum bool) {
		for r := range acc {
			for v := range acc[r] {
				m := Mem{Base: c, Disp: v * t.Bytes}
				if sum {
					VADDPS(m, acc[r][v], acc[r][v])
				}
				VMOVUPS(acc[r][v], m)
			}
			if r < len(acc)-1 {
				ADDQ(ldc, c)
			}
		}
		VZEROUPPER()
		RET()
	}
	TESTQ(add, add)
	JZ(LabelRef("first"))
	store(true)
	Label("first")
	store(false)
}
