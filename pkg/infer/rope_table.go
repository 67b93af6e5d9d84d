package infer

import (
	"math"
	"slices"

	"afmq/pkg/model"
)

// ropeTable caches the cosines and sines of the rotary embedding (Su et al. 2021,
// arXiv:2104.09864), [head_dim/2] for each position.
//
// The frequencies of two scaling types, dynamic and longrope, depend on the length of the
// sequence: its length at the end of the forward call, as in Hugging Face transformers. Keys in
// a cache keep the rotation that they were stored with.
type ropeTable struct {
	rope    model.Rope
	headDim int
	regime  int       // [model.Rope.Regime] of the cached rows; 0 if there are none
	inv     []float64 // their frequencies
	factor  float64
	cos     [][]float32 // per position
	sin     [][]float32
}

func newRopeTable(c *model.Config) *ropeTable { return &ropeTable{rope: c.Rope, headDim: c.HeadDim} }

// at returns the rows of the positions [base, base+n) of a sequence of base+n tokens.
func (t *ropeTable) at(base, n int) (cos, sin [][]float32) {
	if regime := t.rope.Regime(base + n); regime != t.regime {
		inv, factor := t.rope.Frequencies(t.headDim, base+n)
		if factor != t.factor || !slices.Equal(inv, t.inv) {
			t.inv, t.factor, t.cos, t.sin = inv, factor, nil, nil
		}
		t.regime = regime
	}
	inv, factor := t.inv, t.factor
	for pos := len(t.cos); pos < base+n; pos++ {
		c, s := make([]float32, len(inv)), make([]float32, len(inv))
		for i, f := range inv {
			// The angle is rounded to float32 as in the reference
			// implementation, where it matters at large positions.
			angle := float64(float32(f) * float32(pos))
			c[i] = float32(math.Cos(angle) * factor)
			s[i] = float32(math.Sin(angle) * factor)
		}
		t.cos, t.sin = append(t.cos, c), append(t.sin, s)
	}
	return t.cos[base : base+n], t.sin[base : base+n]
}
