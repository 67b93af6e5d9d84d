package palettize

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"afmq/pkg/compute"
	"afmq/pkg/gptq"
)

// input is a matrix in one of the three types, and its values.
type input struct {
	name       string
	src        Source
	rows, cols int
	values     []float64
}

// inputs draws a matrix in each type; adjust may change the values.
func inputs(r *rand.Rand, rows, cols int, adjust func(i int, v float64) float64) []input {
	out := []input{{name: "F16"}, {name: "BF16"}, {name: "F32"}}
	for t := range out {
		in := &out[t]
		in.rows, in.cols = rows, cols
		for i := range rows * cols {
			v := 0.02 * heavy(r)
			if adjust != nil {
				v = adjust(i, v)
			}
			switch t {
			case 0:
				h, _ := roundF16(v)
				in.src.F16 = append(in.src.F16, h)
				v = f16Value(h)
			case 1:
				h := uint16(math.Float32bits(float32(v)) >> 16)
				in.src.BF16 = append(in.src.BF16, h)
				v = bf16.value(h)
			default:
				in.src.F32 = append(in.src.F32, float32(v))
				v = float64(float32(v))
			}
			in.values = append(in.values, v)
		}
	}
	return out
}

func palettizeWith(t testing.TB, threads int, in input, opt Options) (*Matrix, Report) {
	t.Helper()
	pool := compute.NewPool(threads)
	defer pool.Close()
	m, report, err := Palettize(pool, in.src, in.rows, in.cols, opt)
	if err != nil {
		t.Fatalf("%s: %v", in.name, err)
	}
	return m, report
}

// indexAt returns the index of weight (r, c).
func indexAt(m *Matrix, r, c int) int {
	return int(bitAt(m.Indices[r*m.RowBytes():(r+1)*m.RowBytes()], c, m.Bits))
}

// checkMatrix compares every weight, every table and the report with the input: tables ascend
// and are optimal up to the rounding of their entries, and every index is that of the nearest
// entry, ties to the lower one.
func checkMatrix(t *testing.T, in input, opt Options, m *Matrix, report Report) {
	t.Helper()
	if err := m.Validate(); err != nil {
		t.Fatalf("%s: %v", in.name, err)
	}
	dense := make([]float32, in.rows*in.cols)
	m.DequantizeRows(dense, 0, in.rows)
	k := 1 << m.Bits
	squaredError, norm := 0.0, 0.0
	for g := range m.Groups() {
		lut := make([]float64, k)
		for i, h := range m.LUT[g*k : (g+1)*k] {
			lut[i] = f16Value(h)
		}
		if !slices.IsSorted(lut) {
			t.Fatalf("%s: table %d does not ascend: %v", in.name, g, lut)
		}
		var smp sample
		type point struct{ v, w float64 }
		var points []point
		for r := g * m.GroupRows; r < min((g+1)*m.GroupRows, in.rows); r++ {
			for c := range in.cols {
				v := in.values[r*in.cols+c]
				best := 0
				for i, e := range lut {
					if math.Abs(v-e) < math.Abs(v-lut[best]) {
						best = i
					}
				}
				if got := indexAt(m, r, c); got != best {
					t.Fatalf("%s: weight (%d, %d) = %v has index %d (%v), nearest is %d (%v)", in.name, r, c, v, got, lut[got], best, lut[best])
				}
				if got := dense[r*in.cols+c]; float64(got) != lut[best] {
					t.Fatalf("%s: weight (%d, %d) reads %v, want %v", in.name, r, c, got, lut[best])
				}
				squaredError += (v - lut[best]) * (v - lut[best])
				norm += v * v
				w := 1.0
				if opt.Importance != nil {
					w = float64(opt.Importance[c])
				}
				points = append(points, point{v, w})
			}
		}
		slices.SortStableFunc(points, func(a, b point) int {
			switch {
			case a.v < b.v:
				return -1
			case a.v > b.v:
				return 1
			}
			return 0
		})
		for _, p := range points {
			smp.values, smp.weights = append(smp.values, p.v), append(smp.weights, p.w)
		}
		// Rounding an entry by at most u costs at most u² per weight. Apart from that, the
		// table is optimal.
		u := max(math.Abs(lut[0]), math.Abs(lut[k-1]))*0x1p-11 + 0x1p-25
		total := 0.0
		for _, w := range smp.weights {
			total += w
		}
		got, want := errorOf(smp, lut), smawkOptimum(smp, k)
		if !(got <= want*(1+1e-12)+u*u*total) {
			t.Errorf("%s: table %d has a weighted squared error of %g, possible is %g (%g by rounding)", in.name, g, got, want, u*u*total)
		}
	}
	if !near(report.SquaredError, squaredError) || !near(report.SquaredNorm, norm) {
		t.Errorf("%s: reports %+v, want %g and %g", in.name, report, squaredError, norm)
	}
}

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-12*want }

func TestPalettize(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for bits := 1; bits <= MaxBits; bits++ {
		for _, size := range []struct{ rows, cols, group int }{{16, 61, 0}, {7, 40, 3}, {5, 33, 100}, {3, 1, 1}, {40, 21, 0}} {
			for _, in := range inputs(r, size.rows, size.cols, nil) {
				in.name = fmt.Sprintf("%s %dx%d groups of %d at %d bits", in.name, size.rows, size.cols, size.group, bits)
				opt := Options{Bits: bits, GroupRows: size.group, NoRowScale: true}
				m, report := palettizeWith(t, 2, in, opt)
				checkMatrix(t, in, opt, m, report)
				if want := max(size.group, 0); want > 0 && m.GroupRows != want || want == 0 && m.GroupRows != DefaultGroupRows {
					t.Errorf("%s: groups of %d rows", in.name, m.GroupRows)
				}
			}
		}
	}
}

func TestPalettizeWithImportance(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const rows, cols = 12, 50
	importance := make([]float32, cols)
	for c := range importance {
		if g := r.NormFloat64(); c%5 > 0 {
			importance[c] = float32(g * g * g * g)
		}
	}
	for _, bits := range []int{2, 4, 8} {
		for _, in := range inputs(r, rows, cols, nil) {
			in.name = fmt.Sprintf("%s at %d bits", in.name, bits)
			opt := Options{Bits: bits, GroupRows: 5, Importance: importance, NoRowScale: true}
			m, report := palettizeWith(t, 2, in, opt)
			checkMatrix(t, in, opt, m, report)
			// Importance changes the result; importance 0 everywhere does not.
			plain, _ := palettizeWith(t, 1, in, Options{Bits: bits, GroupRows: 5, NoRowScale: true})
			if bits < 8 && slices.Equal(plain.LUT, m.LUT) {
				t.Errorf("%s: the same tables as without importance", in.name)
			}
			none, _ := palettizeWith(t, 1, in, Options{Bits: bits, GroupRows: 5, Importance: make([]float32, cols), NoRowScale: true})
			if !slices.Equal(plain.LUT, none.LUT) || !bytes.Equal(plain.Indices, none.Indices) {
				t.Errorf("%s: importance 0 everywhere differs from none", in.name)
			}
		}
	}
}

// The same values in the three types give the same matrix, although 16-bit weights are counted
// in tables and F32 weights are sorted.
func TestTypesAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const rows, cols = 20, 300
	in := input{rows: rows, cols: cols, src: Source{F32: make([]float32, rows*cols)}}
	f16, b16 := make([]uint16, rows*cols), make([]uint16, rows*cols)
	importance := make([]float32, cols)
	for i := range importance {
		importance[i] = r.Float32()
	}
	for i := range in.src.F32 {
		// Seven bits of mantissa and a moderate exponent are exact in all three types.
		v := float32(r.IntN(255)-127) * float32(math.Ldexp(1, -4-r.IntN(6)))
		in.src.F32[i] = v
		f16[i], _ = roundF16(float64(v))
		b16[i] = uint16(math.Float32bits(v) >> 16)
	}
	for _, imp := range [][]float32{nil, importance} {
		for _, bits := range []int{2, 5} {
			opt := Options{Bits: bits, Importance: imp, NoRowScale: true}
			want, _ := palettizeWith(t, 1, in, opt)
			for name, src := range map[string]Source{"F16": {F16: f16}, "BF16": {BF16: b16}} {
				got, _ := palettizeWith(t, 1, input{name: name, src: src, rows: rows, cols: cols}, opt)
				if !slices.Equal(got.LUT, want.LUT) || !bytes.Equal(got.Indices, want.Indices) {
					t.Errorf("%s at %d bits differs from F32 of the same values", name, bits)
				}
			}
		}
	}
}

func TestFewDistinctValuesAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for bits := 1; bits <= MaxBits; bits++ {
		for _, distinct := range []int{1, 2, 1<<bits - 1, 1 << bits} {
			for _, in := range inputs(r, 9, 70, func(int, float64) float64 {
				return float64(r.IntN(distinct)-distinct/2) / 128
			}) {
				importance := make([]float32, 70)
				importance[3] = 1
				for _, imp := range [][]float32{nil, importance} {
					m, report := palettizeWith(t, 1, in, Options{Bits: bits, GroupRows: 4, Importance: imp, NoRowScale: true})
					dense := make([]float32, in.rows*in.cols)
					m.DequantizeRows(dense, 0, in.rows)
					for i, v := range dense {
						if float64(v) != in.values[i] {
							t.Fatalf("%s, %d values at %d bits: weight %d reads %v, want %v", in.name, distinct, bits, i, v, in.values[i])
						}
					}
					if report.SquaredError != 0 || report.RelError() != 0 {
						t.Errorf("%s, %d values at %d bits: reports an error of %g", in.name, distinct, bits, report.SquaredError)
					}
					if err := m.Validate(); err != nil {
						t.Error(err)
					}
				}
			}
		}
	}
}

func TestSpareEntriesRepeatTheLast(t *testing.T) {
	in := input{name: "F16", rows: 1, cols: 4, src: Source{F16: []uint16{0x3c00, 0x8000, 0x4000, 0x3c00}}}
	m, _ := palettizeWith(t, 1, in, Options{Bits: 3, NoRowScale: true})
	if want := []uint16{0, 0x3c00, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000}; !slices.Equal(m.LUT, want) {
		t.Errorf("table %#04x, want %#04x", m.LUT, want)
	}
	for c, want := range []int{1, 0, 2, 1} {
		if got := indexAt(m, 0, c); got != want {
			t.Errorf("column %d has index %d, want %d", c, got, want)
		}
	}
}

func TestThreadsDoNotChangeTheResult(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, in := range inputs(r, 333, 64, nil) {
		opt := Options{Bits: 3, GroupRows: 4, NoRowScale: true}
		want, wantReport := palettizeWith(t, 1, in, opt)
		for _, threads := range []int{2, 3, 8} {
			got, report := palettizeWith(t, threads, in, opt)
			if !slices.Equal(got.LUT, want.LUT) || !bytes.Equal(got.Indices, want.Indices) || report != wantReport {
				t.Errorf("%s: %d threads give another result than one", in.name, threads)
			}
		}
	}
}

func TestValuesThatCannotBePalettized(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	const rows, cols = 50, 20
	for _, tc := range []struct {
		name   string
		adjust func(i int, v float64) float64
		row    int
		col    int
		reason string
	}{
		{"NaN", func(i int, v float64) float64 { return pick(i == 37*cols+4 || i == 39*cols, math.NaN(), v) }, 37, 4, notFinite},
		{"+Inf", func(i int, v float64) float64 { return pick(i == 0, math.Inf(1), v) }, 0, 0, notFinite},
		{"-Inf last", func(i int, v float64) float64 { return pick(i == rows*cols-1, math.Inf(-1), v) }, rows - 1, cols - 1, notFinite},
		{"too large", func(i int, v float64) float64 { return pick(i == 20*cols+7, -1e6, v) }, 20, 7, tooLarge},
	} {
		for _, in := range inputs(r, rows, cols, tc.adjust) {
			if in.name == "F16" {
				continue // fp16 cannot hold these; codes follow below
			}
			for _, threads := range []int{1, 4} {
				checkValueError(t, tc.name+" in "+in.name, threads, in, tc.row, tc.col, tc.reason)
			}
		}
	}
	// fp16 codes that the values above do not produce.
	for _, code := range []uint16{0x7c00, 0xfc00, 0x7c01, 0xffff, 0x7e00} {
		in := inputs(r, rows, cols, nil)[0]
		in.src.F16[33*cols+19] = code
		checkValueError(t, fmt.Sprintf("%#04x", code), 2, in, 33, 19, notFinite)
		// The tables of counts must be zero again.
		in.src.F16[33*cols+19] = 0
		in.values[33*cols+19] = 0
		m, report := palettizeWith(t, 2, in, Options{Bits: 4, NoRowScale: true})
		checkMatrix(t, in, Options{Bits: 4, NoRowScale: true}, m, report)
	}
}

func pick(cond bool, a, b float64) float64 {
	if cond {
		return a
	}
	return b
}

func checkValueError(t *testing.T, name string, threads int, in input, row, col int, reason string) {
	t.Helper()
	pool := compute.NewPool(threads)
	defer pool.Close()
	m, _, err := Palettize(pool, in.src, in.rows, in.cols, Options{Bits: 2, NoRowScale: true})
	var ve *ValueError
	if m != nil || !errors.As(err, &ve) || ve.Row != row || ve.Col != col || ve.Reason != reason {
		t.Errorf("%s: error %v, want one about row %d, column %d: %s", name, err, row, col, reason)
	}
}

func TestLargestF16ValuesPass(t *testing.T) {
	in := input{name: "F32", rows: 1, cols: 4, src: Source{F32: []float32{65504, -65519, 65519, 0}}}
	m, _ := palettizeWith(t, 1, in, Options{Bits: 2, NoRowScale: true})
	if want := []uint16{0xfbff, 0, 0x7bff, 0x7bff}; !slices.Equal(m.LUT, want) {
		t.Errorf("table %#04x, want %#04x", m.LUT, want)
	}
}

func TestArgumentsThatDoNotFit(t *testing.T) {
	w := make([]uint16, 12)
	nan := float32(math.NaN())
	pool := compute.NewPool(1)
	defer pool.Close()
	for name, tc := range map[string]struct {
		src        Source
		rows, cols int
		opt        Options
	}{
		"no source":           {Source{}, 3, 4, Options{Bits: 4, NoRowScale: true}},
		"two sources":         {Source{F16: w, BF16: w}, 3, 4, Options{Bits: 4, NoRowScale: true}},
		"too few weights":     {Source{F16: w[:11]}, 3, 4, Options{Bits: 4, NoRowScale: true}},
		"too many weights":    {Source{BF16: w}, 2, 4, Options{Bits: 4, NoRowScale: true}},
		"overflow":            {Source{F16: w}, 1 << 62, 4, Options{Bits: 4, NoRowScale: true}},
		"no columns":          {Source{F16: w}, 3, 0, Options{Bits: 4, NoRowScale: true}},
		"negative bits":       {Source{F16: w}, 3, 4, Options{Bits: -1}},
		"nine bits":           {Source{F16: w}, 3, 4, Options{Bits: 9, NoRowScale: true}},
		"negative group":      {Source{F16: w}, 3, 4, Options{Bits: 4, GroupRows: -1, NoRowScale: true}},
		"short importance":    {Source{F16: w}, 3, 4, Options{Bits: 4, Importance: make([]float32, 3), NoRowScale: true}},
		"negative importance": {Source{F16: w}, 3, 4, Options{Bits: 4, Importance: []float32{0, 0, -1, 0}, NoRowScale: true}},
		"importance NaN":      {Source{F16: w}, 3, 4, Options{Bits: 4, Importance: []float32{0, nan, 1, 0}, NoRowScale: true}},
	} {
		if m, _, err := Palettize(pool, tc.src, tc.rows, tc.cols, tc.opt); err == nil || m != nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The zero options are the documented defaults.
func TestZeroOptions(t *testing.T) {
	const rows, cols = 20, 64
	w := uneven(rows, cols)
	zero, _, err := Palettize(nil, Source{F32: w}, rows, cols, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if zero.Bits != 4 || zero.GroupRows != 16 || len(zero.RowScale) != rows {
		t.Errorf("%d bits, groups of %d rows, %d row scales", zero.Bits, zero.GroupRows, len(zero.RowScale))
	}
	h := make([]float32, cols*cols)
	for i := range cols {
		h[i*cols+i] = 1
	}
	f, err := gptq.NewFactor(nil, h, cols, gptq.DefaultDamping, 1)
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := Compensate(nil, Source{F32: w}, rows, cols, Options{}, f, nil, Compensation{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Bits != 4 || m.GroupRows != 16 || len(m.RowScale) != rows {
		t.Errorf("compensated: %d bits, groups of %d rows, %d row scales", m.Bits, m.GroupRows, len(m.RowScale))
	}
}
