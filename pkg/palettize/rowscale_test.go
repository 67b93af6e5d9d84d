package palettize

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

func poolOf(t testing.TB, threads int) *compute.Pool {
	p := compute.NewPool(threads)
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

// Scales lower the error if the rows differ in range, and the report gives the error of the
// stored form.
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
			plain, _, err := Palettize(pool, Source{F32: w}, rows, cols, Options{Bits: bits, Importance: imp, NoRowScale: true})
			if err != nil {
				t.Fatal(err)
			}
			m, report, err := Palettize(pool, Source{F32: w}, rows, cols, Options{Bits: bits, Importance: imp})
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

// Every weight has the entry that is nearest to it, for the scale of its row.
func TestRowScaleIndices(t *testing.T) {
	const rows, cols = 20, 333
	w := uneven(rows, cols)
	m, _, err := Palettize(poolOf(t, 1), Source{F32: w}, rows, cols, Options{Bits: 3})
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

// The squared error of the initial table is at most 0.1 % above that of the optimal table for
// the same scales, which is fitted without cells.
func TestRowScaleCells(t *testing.T) {
	const rows, cols = 16, 1000
	w := uneven(rows, cols)
	for bits := 1; bits <= 6; bits++ {
		k := worker{m: &Matrix{Rows: rows, Cols: cols, Bits: bits, GroupRows: rows}, src: Source{F32: w}}
		scales := make([]uint16, rows)
		k.load(0, rows)
		if _, err := k.firstScales(scales, 0); err != nil {
			t.Fatal(err)
		}
		lut := make([]uint16, 1<<bits)
		k.firstTable(lut, scales)
		got := slices.Clone(k.centroids[:len(lut)])
		ratio, weight := make([]float32, len(w)), make([]float32, len(w))
		for i, v := range w {
			s := f16Value(scales[i/cols])
			ratio[i], weight[i] = float32(float64(v)/s), float32(s*s)
		}
		order := make([]int, len(w))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(ratio[a], ratio[b]) })
		var values, weights []float64
		for _, i := range order {
			values, weights = append(values, float64(ratio[i])), append(weights, float64(weight[i]))
		}
		least := new(KMeans).Solve(values, weights, len(lut), make([]float64, len(lut)))
		sse := 0.0
		for i, v := range values {
			d := math.Inf(1)
			for _, e := range got {
				d = min(d, math.Abs(v-e))
			}
			sse += weights[i] * d * d
		}
		if sse > least*(1+1e-3) {
			t.Errorf("%d bits: squared error %v, the best is %v", bits, sse, least)
		}
	}
}

// Rows of few values that are multiples of each other are reconstructed exactly.
func TestRowScaleExact(t *testing.T) {
	const rows, cols = 16, 64
	w := make([]float32, rows*cols)
	for i := range w {
		w[i] = []float32{-1, -0.25, 0.125, 0.75}[i*7%64%4] * float32(int(1)<<(i/cols%8))
	}
	for _, bits := range []int{2, 4} {
		m, report, err := Palettize(poolOf(t, 1), Source{F32: w}, rows, cols, Options{Bits: bits})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(w))
		m.DequantizeRows(got, 0, rows)
		for i, v := range w {
			if math.Abs(float64(got[i]-v)) > 1e-3*math.Abs(float64(v)) {
				t.Fatalf("%d bits: %v became %v", bits, v, got[i])
			}
		}
		if report.SquaredError > 1e-6*report.SquaredNorm {
			t.Errorf("%d bits: %v of %v is lost", bits, report.SquaredError, report.SquaredNorm)
		}
	}
}

// The error of scales and table is close to that of Lloyd's algorithm over both, run to
// convergence in float64 from the same start.
func TestRowScaleNearConvergence(t *testing.T) {
	const rows, cols = 16, 2048
	codes := heavyMatrix(rows, cols)
	w := make([]float32, len(codes))
	for i, c := range codes {
		w[i] = float32(f16Value(c))
	}
	for _, bits := range []int{2, 3, 4} {
		_, report, err := Palettize(poolOf(t, 1), Source{F16: codes}, rows, cols, Options{Bits: bits})
		if err != nil {
			t.Fatal(err)
		}
		k := worker{m: &Matrix{Rows: rows, Cols: cols, Bits: bits, GroupRows: rows}, src: Source{F32: w}}
		codes := make([]uint16, rows)
		k.load(0, rows)
		if _, err := k.firstScales(codes, 0); err != nil {
			t.Fatal(err)
		}
		lut := make([]uint16, 1<<bits)
		k.firstTable(lut, codes)
		scale, table := make([]float64, rows), make([]float64, len(lut))
		for r := range scale {
			scale[r] = f16Value(codes[r])
		}
		for i := range table {
			table[i] = f16Value(lut[i])
		}
		least := lloyd(w, cols, scale, table, 60)
		t.Logf("%d bits: squared error %.2f %% above that of the converged fit", bits, 100*(report.SquaredError/least-1))
		if report.SquaredError > 1.03*least {
			t.Errorf("%d bits: %v, converged %v", bits, report.SquaredError, least)
		}
	}
}

// lloyd fits scale [rows] and table to w [rows, cols] alternately, in float64 and by
// definition, and returns the final squared error.
func lloyd(w []float32, cols int, scale, table []float64, rounds int) float64 {
	index := make([]int, len(w))
	for round := 0; ; round++ {
		sse := 0.0
		for i, v := range w {
			best := math.Inf(1)
			for j, e := range table {
				if d := math.Abs(float64(v) - scale[i/cols]*e); d < best {
					best, index[i] = d, j
				}
			}
			sse += best * best
		}
		if round == rounds {
			return sse
		}
		for r := range scale {
			num, den := 0.0, 0.0
			for i := r * cols; i < (r+1)*cols; i++ {
				e := table[index[i]]
				num, den = num+e*float64(w[i]), den+e*e
			}
			scale[r] = num / den
		}
		num, den := make([]float64, len(table)), make([]float64, len(table))
		for i, v := range w {
			s := scale[i/cols]
			num[index[i]] += s * float64(v)
			den[index[i]] += s * s
		}
		for j := range table {
			if den[j] > 0 {
				table[j] = num[j] / den[j]
			}
		}
	}
}

// All instruction sets give the same bytes.
func TestRowScaleLevels(t *testing.T) {
	before := compute.Level()
	defer func() {
		if err := kernel.SelectLevel(before); err != nil {
			t.Fatal(err)
		}
	}()
	const rows, cols = 35, 333
	codes := heavyMatrix(rows, cols)
	importance := make([]float32, cols)
	for i := range importance {
		importance[i] = float32(i % 7)
	}
	for bits := 1; bits <= 8; bits++ {
		for _, imp := range [][]float32{nil, importance, make([]float32, cols)} {
			var first *Matrix
			var firstReport Report
			for _, level := range kernel.Levels() {
				if err := kernel.SelectLevel(level); err != nil {
					t.Fatal(err)
				}
				m, report, err := Palettize(poolOf(t, 2), Source{F16: codes}, rows, cols, Options{Bits: bits, Importance: imp})
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first, firstReport = m, report
				}
				if diff := gocmp.Diff(first, m); diff != "" || report != firstReport {
					t.Errorf("%d bits, %s: report %v, %v at first; %s", bits, level, report, firstReport, diff)
				}
			}
		}
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
	m, _, err := Palettize(pool, Source{F32: w}, rows, cols, Options{Bits: 4})
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
	zeros, report, err := Palettize(pool, Source{F32: make([]float32, 32)}, 4, 8, Options{Bits: 2})
	if err != nil || zeros.Validate() != nil || report.SquaredError != 0 {
		t.Errorf("zeros: %+v, %v", report, err)
	}
	for at, bad := range map[int]float32{25: float32(math.NaN()), 100: float32(math.Inf(-1)), 50: 3e38} {
		spoilt := slices.Clone(w)
		spoilt[at] = bad
		_, _, err := Palettize(pool, Source{F32: spoilt}, rows, cols, Options{Bits: 4})
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
	one, _, err := Palettize(poolOf(t, 1), Source{F16: codes}, rows, cols, Options{Bits: 4})
	if err != nil {
		t.Fatal(err)
	}
	three, _, err := Palettize(poolOf(t, 3), Source{F32: values}, rows, cols, Options{Bits: 4})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(one.Indices, three.Indices) || !slices.Equal(one.LUT, three.LUT) || !slices.Equal(one.RowScale, three.RowScale) {
		t.Error("three threads and F32 give another matrix than one and F16")
	}
}
