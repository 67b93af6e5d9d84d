// Package simd is what the generators share: the two instruction sets, and the
// addressing of panels of weights.
package simd

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// PanelRows is the number of weight rows side by side in a panel.
const PanelRows = 16

// Ahead is how many bytes before they are read the weights of a row's product are fetched:
// as panels are read side by side, the processor alone does not see early enough where
// reading goes on. (Measured on a Xeon: 82 % of plain reading without, 105 % with it.)
const Ahead = 1024

// Target is an instruction set to write for.
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

// Targets is all of them.
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

// Zero clears v.
func (t *Target) Zero(v reg.VecVirtual) {
	if t == AVX512 {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

// Zeros returns n registers that are zero.
func (t *Target) Zeros(n int) []reg.VecVirtual {
	v := t.Vectors(n)
	for _, r := range v {
		t.Zero(r)
	}
	return v
}

// Strided addresses panels that lie ps bytes apart from one moving base. The odd
// multiples of ps, which scaled indices cannot reach, have registers.
type Strided struct {
	base reg.Register
	odd  [8]reg.Register
}

// NewStrided prepares for the given number of panels, at most 8.
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

// At is the operand disp bytes into what base points to, in the given panel.
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

// StoreSums ends a product: rows of acc go to rows of C that are ldc bytes
// apart (ldc may be nil for one row), added to what is there unless add is zero.
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
