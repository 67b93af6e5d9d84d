package infer

import (
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/model"
)

// ropeTable caches the cosines and sines of the rotary embedding (Su et al. 2021,
// arXiv:2104.09864), of half the rotated dimensions of a head, for each position.
//
// The frequencies of two scaling types, dynamic and longrope, depend on the length of the
// sequence: its length at the end of the forward call, as in Hugging Face transformers, or
// [Segment].Length. Keys in a cache keep the rotation that they were stored with.
type ropeTable struct {
	rope    model.Rope
	headDim int
	regimes map[int]*ropeRows // by [model.Rope.Regime]
}

// ropeRows are the rows of one regime.
type ropeRows struct {
	inv    []float64 // frequencies
	factor float64
	cos    [][]float32 // per position
	sin    [][]float32
}

// maxRegimes is how many regimes are cached: longrope has two, and dynamic one for each length
// beyond the trained one.
const maxRegimes = 2

func newRopeTable(rope model.Rope, headDim int) *ropeTable {
	return &ropeTable{rope: rope, headDim: headDim, regimes: map[int]*ropeRows{}}
}

// at returns the rows of the positions [base, base+n) of a sequence of that length.
func (t *ropeTable) at(base, n, length int) (cos, sin [][]float32) {
	regime := t.rope.Regime(length)
	rows := t.regimes[regime]
	if rows == nil {
		if len(t.regimes) == maxRegimes {
			clear(t.regimes)
		}
		rows = &ropeRows{}
		rows.inv, rows.factor = t.rope.Frequencies(t.headDim, length)
		t.regimes[regime] = rows
	}
	return rows.at(base, n)
}

func (t *ropeRows) at(base, n int) (cos, sin [][]float32) {
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

// rotation has the rotary embedding of the tokens of a batch.
type rotation struct {
	table    *ropeTable
	cos, sin [][]float32 // per token, of the pairs of a head that are rotated
}

// newRotations returns the rotary embeddings of the layers of a model.
func newRotations(c *model.Config) []rotation {
	all := []rotation{{table: newRopeTable(c.Rope, c.HeadDim)}}
	if c.SlidingRope != nil {
		all = append(all, rotation{table: newRopeTable(*c.SlidingRope, c.HeadDim)})
	}
	return all
}

// clear begins a batch.
func (t *rotation) clear() { t.cos, t.sin = t.cos[:0], t.sin[:0] }

// append adds the n tokens from position base on of a sequence of that length.
func (t *rotation) append(base, n, length int) {
	cos, sin := t.table.at(base, n, length)
	t.cos, t.sin = append(t.cos, cos...), append(t.sin, sin...)
}

// rotation returns the rotary embedding of a layer; nil if it has none.
func (r *Runner) rotation(layer int) *rotation {
	switch c := r.model.Config; c.LayerRope(layer) {
	case nil:
		return nil
	case &c.Rope:
		return &r.ropes[0]
	}
	return &r.ropes[1]
}

// rotate rotates the heads x of token i of the batch. A nil t leaves them as they are.
func (t *rotation) rotate(x []float32, headDim, i int) {
	if t == nil {
		return
	}
	for at := 0; at < len(x); at += headDim {
		kernel.Rope(x[at:at+2*len(t.cos[i])], t.cos[i], t.sin[i])
	}
}

// rotateBack is rotate for gradients.
func (t *rotation) rotateBack(x []float32, headDim, i int) {
	if t == nil {
		return
	}
	for at := 0; at < len(x); at += headDim {
		kernel.RopeBack(x[at:at+2*len(t.cos[i])], t.cos[i], t.sin[i])
	}
}
