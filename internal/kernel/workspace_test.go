package kernel

import (
	"fmt"
	"math"
	"testing"
)

// TestBuffersAreReused runs products of many shapes, formats and arithmetics on one pool, which reuses
// its buffers. Before every fourth product the buffers are filled with NaN. Each product must have the
// bits of one on a new pool.
func TestBuffersAreReused(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		rounds := 400
		if level == "generic" {
			rounds = 60
		}
		r := newRand(41)
		shared := NewPool(2)
		defer shared.Close()
		const poisonRows, poisonCols, poisonM = 64, 600, 33
		bad := filled(max(poisonRows, poisonM)*poisonCols, float32(math.NaN()))
		poison := PackF32(poisonRows, poisonCols, bad[:poisonRows*poisonCols])
		for i := range rounds {
			f := tileFormats[r.IntN(len(tileFormats))]
			c := Compute(r.IntN(len(computeNames)))
			if !c.available() {
				continue
			}
			n, k, m := 1+r.IntN(150), 1+r.IntN(700), 1+r.IntN(70)
			if r.IntN(3) == 0 {
				m = 1 + r.IntN(3)
			}
			w, back, add := f.make(r, n, k), r.IntN(3) == 0, r.IntN(2) == 0
			in, out := k, n
			if back {
				in, out = n, k
			}
			x, y := normals(r, m*in), normals(r, m*out)
			if i%4 == 0 {
				p := shared.With(c)
				p.MulT(make([]float32, poisonM*poisonRows), bad, poisonM, poison)
				p.Mul(make([]float32, poisonM*poisonCols), bad, poisonM, poison)
			}
			multiply := func(p *Pool) []float32 {
				p = p.With(c)
				f := p.MulT
				switch {
				case back && add:
					f = p.MulAdd
				case back:
					f = p.Mul
				case add:
					f = p.MulTAdd
				}
				dst := append([]float32(nil), y...)
				f(dst, x, m, w)
				return dst
			}
			own := NewPool(1)
			want := multiply(own)
			own.Close()
			sameBits(t, fmt.Sprintf("round %d: %s %s [%d, %d], %d rows, back %v, add %v", i, c, f.name, n, k, m, back, add), multiply(shared), want)
		}
	})
}

// TestInt16AddOfOthers checks that MulTAdd in I16 uses F32 for a matrix without an I16 form.
func TestInt16AddOfOthers(t *testing.T) {
	r := newRand(42)
	const m, n, k = 5, 40, 600
	eachLevelWith(t, I16, func(t *testing.T, _ string) {
		w := PackF32(n, k, normals(r, n*k))
		x, y := normals(r, m*k), normals(r, m*n)
		p := NewPool(2)
		defer p.Close()
		got, want := append([]float32(nil), y...), append([]float32(nil), y...)
		p.With(I16).MulTAdd(got, x, m, w)
		p.MulTAdd(want, x, m, w)
		sameBits(t, "F32 weights", got, want)
	})
}
