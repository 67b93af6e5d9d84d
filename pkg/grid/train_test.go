package grid

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"afmq/pkg/compute"
)

// trainedGrids are all grids in training.
func trainedGrids() []Grid {
	return append(grids(), Palette{Bits: 2, GroupRows: 16, RowScale: true}, Palette{Bits: 3, GroupRows: 16, RowScale: true},
		Palette{Bits: 4, GroupRows: 32}, Palette{Bits: 6, GroupRows: 16, RowScale: true}, Palette{Bits: 1, GroupRows: 7, RowScale: true})
}

// zeroRow is a row of zeros in the matrix of inTraining.
const zeroRow = 5

// inTraining quantizes a random matrix and returns it in training.
func inTraining(t *testing.T, g Grid, rows, cols int) (Trainable, Data) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	w := make([]float32, rows*cols)
	for i := range w {
		w[i] = float32(r.NormFloat64() * (1 + float64(i/cols%5)))
	}
	clear(w[zeroRow*cols : (zeroRow+1)*cols])
	data, _, err := g.Quantize(nil, Source{F32: w}, rows, cols, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := g.Train(data, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	return m, data
}

func newValues(m Trainable) Values {
	tables, scales, codes := m.Lengths()
	return Values{make([]float32, tables), make([]float32, scales), make([]float32, codes)}
}

func allWeights(t *testing.T, g Grid, data Data, rows, cols int) []float32 {
	t.Helper()
	f, err := g.Weights(data, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, rows*cols)
	if err := f(out, 0, rows); err != nil {
		t.Fatal(err)
	}
	return out
}

// What is read and stored again has the same bytes, and units are positive.
func TestTrainRoundTrip(t *testing.T) {
	const rows, cols = 37, 256
	pool := compute.NewPool(3)
	defer pool.Close()
	for _, g := range trainedGrids() {
		m, data := inTraining(t, g, rows, cols)
		v, units := newValues(m), newValues(m)
		m.Read(v)
		m.Units(units)
		m.Store(pool, v)
		if !slices.EqualFunc(m.Data(), data, bytes.Equal) {
			// A table may have equal entries, and a block a code that stands for the same weight.
			if w := allWeights(t, g, m.Data(), rows, cols); !slices.Equal(w, allWeights(t, g, data, rows, cols)) {
				t.Errorf("%v: other weights after a round trip", g)
			}
		}
		for _, u := range slices.Concat(units.Tables, units.Scales, units.Codes) {
			if !(u > 0) || !finite(u) {
				t.Fatalf("%v: a unit of %v", g, u)
			}
		}
	}
}

// A gradient is the slope of Σ C·W along each value: every weight is linear in a table's entry, in a
// scale and in a bias, and, from one code to another, in what the code stands for.
func TestTrainGradients(t *testing.T) {
	const rows, cols = 33, 256
	pool, one := compute.NewPool(3), compute.NewPool(1)
	defer pool.Close()
	defer one.Close()
	for _, g := range trainedGrids() {
		m, data := inTraining(t, g, rows, cols)
		r := rand.New(rand.NewPCG(3, 4))
		c := make([]float32, rows*cols)
		for i := range c {
			c[i] = float32(r.NormFloat64())
		}
		grad, again := newValues(m), newValues(m)
		m.AddGradient(pool, grad, c)
		m.AddGradient(one, again, c)
		for i, x := range [][2][]float32{{grad.Tables, again.Tables}, {grad.Scales, again.Scales}, {grad.Codes, again.Codes}} {
			if !slices.Equal(x[0], x[1]) {
				t.Errorf("%v: gradients %d depend on the number of threads", g, i)
			}
		}
		v := newValues(m)
		m.Read(v)
		before := allWeights(t, g, data, rows, cols)
		// slope stores a changed value and returns the change of Σ C·W for the change that was stored.
		slope := func(values []float32, i int, to float32) (got float64, moved bool) {
			old := values[i]
			values[i] = to
			m.Store(pool, v)
			now := newValues(m)
			m.Read(now)
			step := 0.0
			for _, x := range [][2][]float32{{v.Tables, now.Tables}, {v.Scales, now.Scales}, {v.Codes, now.Codes}} {
				if len(x[0]) > 0 && len(values) == len(x[0]) && &x[0][0] == &values[0] {
					step = float64(x[1][i]) - float64(old)
				}
			}
			sum := 0.0
			for k, w := range allWeights(t, g, m.Data(), rows, cols) {
				sum += float64(c[k]) * (float64(w) - float64(before[k]))
			}
			values[i] = old
			m.Store(pool, v)
			return sum / step, step != 0
		}
		check := func(what string, values, grads []float32, to func(i int) float32) {
			tried := 0
			for range 60 {
				if len(values) == 0 {
					return
				}
				i := r.IntN(len(values))
				got, moved := slope(values, i, to(i))
				if !moved {
					continue
				}
				tried++
				if want := float64(grads[i]); math.Abs(got-want) > 2e-3*(math.Abs(want)+1) {
					t.Fatalf("%v: %s %d: gradient %v, slope %v", g, what, i, want, got)
				}
			}
			if tried < 3 {
				t.Errorf("%v: only %d %s moved", g, tried, what)
			}
		}
		// Codes of palettes follow their table's entries only where these are the nearest.
		codes := v.Codes
		v.Codes = nil
		check("table entry", v.Tables, grad.Tables, func(i int) float32 { return v.Tables[i] * 1.5 })
		check("scale", v.Scales, grad.Scales, func(i int) float32 { return v.Scales[i] * 1.5 })
		v.Codes = codes
		check("code", v.Codes, grad.Codes, func(i int) float32 { return v.Codes[(i+1)%len(v.Codes)] })
	}
}

// A code becomes the one whose weight is nearest.
func TestTrainNearest(t *testing.T) {
	const rows, cols = 20, 256
	for _, g := range trainedGrids() {
		m, _ := inTraining(t, g, rows, cols)
		v, units := newValues(m), newValues(m)
		m.Read(v)
		m.Units(units)
		levels := slices.Clone(v.Codes)
		slices.Sort(levels)
		levels = slices.Compact(levels)
		r := rand.New(rand.NewPCG(5, 6))
		want := slices.Clone(v.Codes)
		for i := range want {
			want[i] += float32(r.NormFloat64()) * units.Codes[i]
		}
		moved := Values{Codes: want}
		m.Store(nil, moved)
		now := newValues(m)
		m.Read(now)
		p, palette := g.(Palette)
		for i, x := range now.Codes {
			if i/cols == zeroRow {
				continue // all levels stand for 0
			}
			all := levels
			if palette {
				at := i / cols / p.GroupRows << p.Bits
				all = v.Tables[at : at+1<<p.Bits]
			}
			for _, other := range all {
				if math.Abs(float64(want[i])-float64(other)) < math.Abs(float64(want[i])-float64(x))-1e-5 {
					t.Fatalf("%v: %v became %v, %v is nearer", g, want[i], x, other)
				}
			}
		}
		// Tables are stored in ascending order.
		if palette {
			x, err := p.Matrix(m.Data(), rows, cols)
			if err != nil {
				t.Fatal(err)
			}
			table := widenAll(x.LUT)
			for k := 0; k < len(table); k += 1 << p.Bits {
				if !slices.IsSorted(table[k : k+1<<p.Bits]) {
					t.Errorf("%v: a table is not in ascending order", g)
				}
			}
		}
	}
}

func widenAll(bits []uint16) []float32 { return widen(0, putHalves(bits), 0, len(bits)) }

// A table that training leaves unsorted is stored sorted, with the same weights.
func TestTrainSortsTables(t *testing.T) {
	const rows, cols = 20, 256
	g := Palette{Bits: 3, GroupRows: 16, RowScale: true}
	m, _ := inTraining(t, g, rows, cols)
	v := newValues(m)
	m.Read(v)
	v.Codes = nil
	r := rand.New(rand.NewPCG(7, 8))
	for i := range v.Tables {
		v.Tables[i] = float32(r.NormFloat64())
	}
	m.Store(nil, v)
	now := newValues(m)
	m.Read(now)
	stored := allWeights(t, g, m.Data(), rows, cols)
	for i, code := range now.Codes {
		if want := code * now.Scales[i/cols]; stored[i] != want {
			t.Fatalf("weight %d is %v, want %v", i, stored[i], want)
		}
	}
}

// Values that cannot be stored leave what is there.
func TestTrainKeepsFinite(t *testing.T) {
	const rows, cols = 20, 256
	for _, g := range trainedGrids() {
		m, data := inTraining(t, g, rows, cols)
		v := newValues(m)
		m.Read(v)
		for _, x := range [][]float32{v.Tables, v.Scales, v.Codes} {
			for i := range x {
				x[i] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0, -x[i], 1e30}[i%6]
			}
		}
		m.Store(nil, v)
		for i, w := range allWeights(t, g, m.Data(), rows, cols) {
			if !finite(w) {
				t.Fatalf("%v: weight %d is %v, was %v", g, i, w, allWeights(t, g, data, rows, cols)[i])
			}
		}
	}
}

// A row of zeros has a scale of 0 on grids with scales. It has units like the others, no gradient, and
// stays 0.
func TestTrainZeroRow(t *testing.T) {
	const rows, cols = 20, 256
	for _, g := range trainedGrids() {
		m, data := inTraining(t, g, rows, cols)
		if slices.ContainsFunc(allWeights(t, g, data, rows, cols)[zeroRow*cols:(zeroRow+1)*cols], func(w float32) bool { return w != 0 }) {
			continue // without row scales, zero may be no entry of the table
		}
		v, units, grad := newValues(m), newValues(m), newValues(m)
		m.Read(v)
		m.Units(units)
		c := make([]float32, rows*cols)
		for i := range c {
			c[i] = float32(i%7) - 3
		}
		m.AddGradient(nil, grad, c)
		for i := range v.Scales { // a step against the gradient
			v.Scales[i] -= 0.01 * units.Scales[i] * sign(grad.Scales[i])
		}
		m.Store(nil, Values{Scales: v.Scales})
		for i, w := range allWeights(t, g, m.Data(), rows, cols)[zeroRow*cols : (zeroRow+1)*cols] {
			if w != 0 {
				t.Fatalf("%v: column %d became %v", g, i, w)
			}
		}
		scales := units.Scales
		if _, affine := g.(Affine); affine {
			scales = scales[:len(scales)/2] // without the biases
		}
		if _, block := g.(Block); block { // D only: DMin has no meaning in some types
			var d []float32
			for i := 0; i < len(scales); i += 2 {
				d = append(d, scales[i])
			}
			scales = d
		}
		if _, palette := g.(Palette); !palette && slices.Max(scales) > 100*scales[0] {
			t.Errorf("%v: units from %v to %v", g, scales[0], slices.Max(scales))
		}
	}
}

func sign(x float32) float32 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}
