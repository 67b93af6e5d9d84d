package palettize

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"afmq/internal/kernel"
)

func poolOf(t testing.TB, threads int) *kernel.Pool {
	p := kernel.NewPool(threads)
	t.Cleanup(p.Close)
	return p
}

// uneven draws weights [rows, cols] whose rows differ in range by powers of two.
func uneven(rows, cols int) []float32 {
	r := rand.New(rand.NewPCG(7, 8))
	w := make([]float32, rows*cols)
	for i := range w {
		w[i] = float32(r.NormFloat64() * math.Exp2(float64(i/cols*5%7)-4))
	}
	return w
}

// cost recomputes the error of m from its stored form.
func cost(m *Matrix, w, importance []float32) float64 {
	got := make([]float32, len(w))
	m.DequantizeRows(got, 0, m.Rows)
	sum := 0.0
	for i := range w {
		x := 1.0
		if importance != nil {
			x = float64(importance[i%m.Cols])
		}
		d := float64(w[i]) - float64(got[i])
		sum += x * d * d
	}
	return sum
}

// Scales lower the error where rows differ, and the report says what the stored form
// loses.
func TestRowScale(t *testing.T) {
	pool := poolOf(t, 2)
	const rows, cols = 37, 200
	w := uneven(rows, cols)
	importance := make([]float32, cols)
	for i := range importance {
		importance[i] = float32(i%5) * 3
	}
	for bits := 1; bits <= 8; bits++ {
		for _, imp := range [][]float32{nil, importance} {
			plain, _, err := Palettize(pool, Source{F32: w}, rows, cols, Options{Bits: bits, Importance: imp})
			if err != nil {
				t.Fatal(err)
			}
			m, report, err := Palettize(pool, Source{F32: w}, rows, cols, Options{Bits: bits, Importance: imp, RowScale: true})
			if err == nil {
				err = m.Validate()
			}
			if err != nil {
				t.Fatal(err)
			}
			got := cost(m, w, nil)
			if math.Abs(got-report.SquaredError) > 1e-9*got {
				t.Errorf("%d bits: the report says %v, the matrix loses %v", bits, report.SquaredError, got)
			}
			if a, b := cost(m, w, imp), cost(plain, w, imp); a > 0.8*b {
				t.Errorf("%d bits, importance %v: %v with scales, %v without", bits, imp != nil, a, b)
			}
			norm := 0.0
			for _, x := range w {
				norm += float64(x) * float64(x)
			}
			if math.Abs(norm-report.SquaredNorm) > 1e-9*norm {
				t.Errorf("norm %v, expected %v", report.SquaredNorm, norm)
			}
		}
	}
}

// Every weight has the entry that is nearest to it over the row's scale.
func TestRowScaleIndices(t *testing.T) {
	const rows, cols = 20, 333
	w := uneven(rows, cols)
	m, _, err := Palettize(poolOf(t, 1), Source{F32: w}, rows, cols, Options{Bits: 3, RowScale: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range w {
		r, c := i/cols, i%cols
		lut := m.LUT[r/16*8 : r/16*8+8]
		s := f16Value(m.RowScale[r])
		chosen := math.Abs(float64(v) - s*f16Value(lut[indexAt(m, r, c)]))
		for k, e := range lut {
			if d := math.Abs(float64(v) - s*f16Value(e)); d < chosen*(1-1e-9) {
				t.Fatalf("row %d, column %d: entry %d is nearer (%v, chosen %v)", r, c, k, d, chosen)
			}
		}
	}
}

// The table is optimal for the scales: a fit without cells, by sorting, is not
// better by more than a millionth.
func TestRowScaleCells(t *testing.T) {
	const rows, cols = 16, 1000
	w := uneven(rows, cols)
	var k worker
	k.m = &Matrix{Rows: rows, Cols: cols, Bits: 4, GroupRows: 16}
	scales := make([]uint16, rows)
	ratio, weight := make([]float32, len(w)), make([]float32, len(w))
	k.plain = make([]float64, len(w))
	for r := range scales {
		largest := 0.0
		for _, v := range w[r*cols : (r+1)*cols] {
			largest = max(largest, math.Abs(float64(v)))
		}
		scales[r], _ = roundF16(largest)
		s := f16Value(scales[r])
		for c := range cols {
			i := r*cols + c
			k.plain[i], ratio[i], weight[i] = float64(w[i]), float32(float64(w[i])/s), float32(s*s)
		}
	}
	lut := make([]uint16, 16)
	if err := k.fitScaled(lut, scales, 0); err != nil {
		t.Fatal(err)
	}
	got := slices.Clone(k.centroids[:16])
	var h histogram
	h.sort(ratio, weight)
	best := make([]float64, 16)
	least := new(Solver).Solve(h.values, h.weights, 16, best)
	sse := 0.0
	for i, v := range h.values {
		d := math.Inf(1)
		for _, e := range got {
			d = min(d, math.Abs(v-e))
		}
		sse += h.weights[i] * d * d
	}
	if sse > least*(1+1e-6) {
		t.Errorf("squared error %v, the best is %v", sse, least)
	}
}

func TestRowScaleOddRows(t *testing.T) {
	pool := poolOf(t, 2)
	const rows, cols = 18, 9
	w := uneven(rows, cols)
	for c := range cols {
		w[3*cols+c] = 0     // a row of zeros stays one
		w[5*cols+c] = -0.75 // a constant row
		w[7*cols+c] = 1e-9  // below what an fp16 scale can say
	}
	m, _, err := Palettize(pool, Source{F32: w}, rows, cols, Options{Bits: 4, RowScale: true})
	if err == nil {
		err = m.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, len(w))
	m.DequantizeRows(got, 0, rows)
	for c := range cols {
		if got[3*cols+c] != 0 || math.Abs(float64(got[7*cols+c])) > 2e-9 || math.Abs(float64(got[5*cols+c])+0.75) > 1e-2 {
			t.Errorf("column %d: %v, %v, %v", c, got[3*cols+c], got[5*cols+c], got[7*cols+c])
		}
	}
	zeros, report, err := Palettize(pool, Source{F32: make([]float32, 32)}, 4, 8, Options{Bits: 2, RowScale: true})
	if err != nil || zeros.Validate() != nil || report.SquaredError != 0 {
		t.Errorf("zeros: %+v, %v", report, err)
	}
	for at, bad := range map[int]float32{25: float32(math.NaN()), 100: float32(math.Inf(-1)), 50: 3e38} {
		spoilt := slices.Clone(w)
		spoilt[at] = bad
		_, _, err := Palettize(pool, Source{F32: spoilt}, rows, cols, Options{Bits: 4, RowScale: true})
		var ve *ValueError
		if !errors.As(err, &ve) || ve.Row != at/cols || ve.Col != at%cols {
			t.Errorf("%v at %d: %v", bad, at, err)
		}
	}
}

func TestRowScaleThreadsAndTypes(t *testing.T) {
	const rows, cols = 50, 64
	codes := heavyMatrix(rows, cols)
	values := make([]float32, len(codes))
	for i, c := range codes {
		values[i] = float32(f16Value(c))
	}
	one, _, err := Palettize(poolOf(t, 1), Source{F16: codes}, rows, cols, Options{Bits: 4, RowScale: true})
	if err != nil {
		t.Fatal(err)
	}
	three, _, err := Palettize(poolOf(t, 3), Source{F32: values}, rows, cols, Options{Bits: 4, RowScale: true})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(one.Indices, three.Indices) || !slices.Equal(one.LUT, three.LUT) || !slices.Equal(one.RowScale, three.RowScale) {
		t.Error("three threads and F32 give another matrix than one and F16")
	}
}
