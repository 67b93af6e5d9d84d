package grid

import (
	"math/rand/v2"
	"testing"

	"afmq/pkg/ggml"
	"afmq/pkg/gptq"
)

// fixed hides the settings of parts from package gptq.
type fixed struct{ gptq.Codes }

// Parts that choose their scales with the codes have a lower error, on every grid.
func TestSettingsLowerError(t *testing.T) {
	const rows, cols = 8, 256
	r := rand.New(rand.NewPCG(11, 12))
	h := hessian(r, cols)
	f, err := gptq.NewFactor(nil, append([]float32(nil), h...), cols, gptq.DefaultDamping, 128)
	if err != nil {
		t.Fatal(err)
	}
	w := make([]float32, rows*cols)
	for i := range w {
		w[i] = float32(r.NormFloat64())
	}
	for _, g := range grids() {
		if g.Run() == 1 {
			continue // no parts
		}
		refine := func(wrap func(chunk) gptq.Codes) float64 {
			data := allocate(g, rows, cols)
			c, finish := newChunk(g, rows, f.Order())
			c.load(w, rows, f.Importance())
			gptq.NewRefiner(nil, f, nil).Refine(c.ordered(), 0, rows, wrap(c), gptq.DefaultRounds)
			c.store(data, 0)
			finish(data)
			return outputError(t, g, data, w, h, rows, cols)
		}
		with := refine(func(c chunk) gptq.Codes { return c })
		without := refine(func(c chunk) gptq.Codes { return fixed{c} })
		t.Logf("%v: %.3f", g, with/without)
		if !(with < 0.995*without) {
			t.Errorf("%v: error %v, with scales of the first fit %v", g, with, without)
		}
	}
}

// newChunk returns the codes of a grid, and what to do after they are stored.
func newChunk(g Grid, rows int, order []int32) (chunk, func(Data)) {
	switch g := g.(type) {
	case Block:
		return newBlockCodes(g.Type, order), func(Data) {}
	case Affine:
		return &scaledParts{newScaledCodes(g.scaled(), order, g.put)}, func(Data) {}
	default:
		zeros := g.(Integer).newZeros(rows, len(order))
		return &scaledParts{newScaledCodes(zeros.scaled(), order, zeros.put)}, zeros.pack
	}
}

// Every setting is one that the type stores, setting 0 is the present one, and none is out of
// reach at the ends of the ranges.
func TestSettings(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, kind := range types() {
		order := make([]int32, 256)
		for i := range order {
			order[i] = int32(i)
		}
		c := newBlockCodes(kind, order)
		w, importance := make([]float32, 256), make([]float32, 256)
		for i := range w {
			w[i], importance[i] = float32(r.NormFloat64()), 1
		}
		c.load(w, 1, importance)
		row := c.Row(0).(gptq.PartRow)
		least, most := kind.ScaleRange()
		for p := range 256 / kind.PartWeights() {
			for _, scale := range []int{least, int(c.blocks[p*kind.PartWeights()/c.size].Scales[p%kind.Parts()]), most} {
				b := &c.blocks[p*kind.PartWeights()/c.size]
				b.Scales[p%kind.Parts()] = int8(scale)
				before := *b
				n := row.Settings(p, true)
				if n < 3 {
					t.Errorf("%v: %d settings", kind, n)
				}
				for s := range n {
					row.Try(p, s)
					packed := make([]byte, kind.BlockBytes())
					b.Pack(packed)
					again := ggml.Block{Type: kind}
					again.Unpack(packed)
					if again != *b {
						t.Fatalf("%v: setting %d of part %d is not stored: %v", kind, s, p, *b)
					}
					if s > 0 && *b == before {
						t.Errorf("%v: setting %d of part %d is the present one", kind, s, p)
					}
				}
				if row.Try(p, 0); *b != before {
					t.Errorf("%v: setting 0 of part %d is another one", kind, p)
				}
			}
		}
	}
}

// A factor whose order takes parts apart is refused.
func TestFactorOfOtherRun(t *testing.T) {
	h := make([]float32, 256*256)
	for i := range 256 {
		h[i*257] = 1
	}
	f, err := gptq.NewFactor(nil, h, 256, gptq.DefaultDamping, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := (Block{ggml.Q4_K}).Compensate(nil, Source{F32: make([]float32, 256)}, 1, 256, f, nil); err == nil {
		t.Error("accepted")
	}
}
