package gptq

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"afmq/internal/correlated"
	"afmq/pkg/compute"
)

const testPart = 16

// scaled are Codes of parts with an integer scale each: a weight is scale·(code-8).
type scaled struct {
	rows, n int
	codes   []uint8 // [rows, n]
	scales  []int   // [rows, n/testPart]
	hidden  bool    // the parts keep their scales
}

type scaledRow struct {
	*scaled
	r, base int
}

func (s *scaled) Row(r int) Row    { return &scaledRow{scaled: s, r: r} }
func (s *scaled) PartColumns() int { return testPart }

func (s *scaledRow) scale(p int) *int { return &s.scales[s.r*s.n/testPart+p] }

func (s *scaledRow) Value(j int) float32 {
	return float32(*s.scale(j / testPart) * (int(s.codes[s.r*s.n+j]) - 8))
}

func (s *scaledRow) Nearest(j int, target float32) (uint8, float32) {
	scale := float64(*s.scale(j / testPart))
	c := min(max(math.RoundToEven(float64(target)/scale), -8), 7)
	return uint8(c + 8), float32(scale * c)
}

func (s *scaledRow) Set(j int, code uint8) { s.codes[s.r*s.n+j] = code }

func (s *scaledRow) Settings(p int, wide bool) int {
	if s.base = *s.scale(p); s.hidden {
		return 1
	}
	return 3
}

func (s *scaledRow) Try(p, k int) { *s.scale(p) = max(1, s.base+[]int{0, -1, 1}[k]) }

func (s *scaled) Errors(dst, weights []float32) {
	for i := range dst {
		dst[i] = weights[i] - s.Row(i/s.n).Value(i%s.n)
	}
}

func (s *scaled) Groups() int                             { return s.rows }
func (s *scaled) GroupRows(g int) (first, end int)        { return g, g + 1 }
func (s *scaled) Parameters() int                         { return 1 }
func (s *scaled) Gather(dst []float64, _ []float32)       { clear(dst) }
func (s *scaled) Spread(dst []float32, _ []float64)       { clear(dst) }
func (s *scaled) Curvature(dst, _ []float64, _ []float32) { clear(dst) }
func (s *scaled) Move(int, []float64)                     {}
func (s *scaled) Keep(int)                                {}
func (s *scaled) Restore(int)                             {}
func (s *scaled) clone() *scaled {
	c := *s
	c.codes, c.scales = slices.Clone(s.codes), slices.Clone(s.scales)
	return &c
}

// problem returns a factor with its damped Hessian by position, weights [rows, n], and codes with
// scales that are too small for them.
func problem(t *testing.T, rows, n int) (*Factor, *mat.SymDense, []float32, *scaled) {
	pool := compute.NewPool(1)
	t.Cleanup(pool.Close)
	r := rand.New(rand.NewPCG(7, 8))
	h := correlated.Moment(pool, r, 4*n, n)
	f, err := NewFactor(pool, slices.Clone(h), n, DefaultDamping, testPart)
	if err != nil {
		t.Fatal(err)
	}
	damped, mean := mat.NewSymDense(n, nil), 0.0
	for i := range n {
		mean += float64(h[i*n+i]) / float64(n)
	}
	for i, a := range f.Order() {
		for j, b := range f.Order() {
			damped.SetSym(i, j, float64(h[int(a)*n+int(b)]))
		}
		damped.SetSym(i, i, float64(h[int(a)*n+int(a)])*(1+DefaultDamping)+0.01*DefaultDamping*mean)
	}
	w := make([]float32, rows*n)
	for i := range w {
		w[i] = float32(20 * r.NormFloat64())
	}
	c := &scaled{rows: rows, n: n, codes: make([]uint8, rows*n), scales: make([]int, rows*n/testPart)}
	for i := range c.scales {
		c.scales[i] = 5
	}
	for i, v := range w {
		c.codes[i], _ = c.Row(i/n).Nearest(i%n, v)
	}
	return f, damped, w, c
}

// rowErrors returns e·H·eᵀ of every row, computed in float64 from the codes.
func rowErrors(c *scaled, h *mat.SymDense, w []float32) []float64 {
	e := make([]float32, len(w))
	c.Errors(e, w)
	out := make([]float64, c.rows)
	for r := range out {
		v := mat.NewVecDense(c.n, nil)
		for j := range c.n {
			v.SetVec(j, float64(e[r*c.n+j]))
		}
		out[r] = mat.Inner(v, h, v)
	}
	return out
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

// Coordinate descent with a search of the parts lowers the error of every row, below what
// descent over the codes alone reaches, and keeps errors and gradient in step with the codes.
func TestDescendParts(t *testing.T) {
	const rows, n = 5, 304 // two blocks of columns and a part of a third
	f, h, w, start := problem(t, rows, n)
	end := map[bool]float64{}
	for _, search := range []bool{false, true} {
		s, c := NewRefiner(nil, f, nil), start.clone()
		s.begin(w, rows, c)
		c.Errors(s.errs, w)
		s.gradient()
		before := rowErrors(c, h, w)
		for range 6 {
			s.descend(search)
			after := rowErrors(c, h, w)
			for r := range rows {
				if after[r] > before[r]*(1+1e-4) {
					t.Fatalf("search %v: row %d rose from %v to %v", search, r, before[r], after[r])
				}
			}
			before = after
		}
		end[search] = sum(before)
		errs, grad := slices.Clone(s.errs), slices.Clone(s.grad)
		c.Errors(s.errs, w)
		s.gradient()
		for i := range errs {
			if errs[i] != s.errs[i] || math.Abs(float64(grad[i]-s.grad[i])) > 1e-3*f.hDiag[i%n] {
				t.Fatalf("search %v: element %d: error %v, gradient %v; the codes give %v, %v", search, i, errs[i], grad[i], s.errs[i], s.grad[i])
			}
		}
	}
	if !(end[true] < 0.9*end[false]) {
		t.Errorf("error %v with a search of the parts, %v without", end[true], end[false])
	}
}

// GPTQ that chooses scales with the codes has a lower error than with the scales as they were.
func TestFeedbackParts(t *testing.T) {
	const rows, n = 5, 304
	f, h, w, start := problem(t, rows, n)
	run := func(c *scaled) float64 {
		s := NewRefiner(nil, f, nil)
		r := s.Refine(w, 0, rows, c, 0)
		stored := sum(rowErrors(c, h, w))
		if math.Abs(r.OutputError-stored) > 1e-3*stored {
			t.Errorf("reports %v, the codes have %v", r.OutputError, stored)
		}
		return stored
	}
	kept := start.clone()
	kept.hidden = true
	with, without := run(start.clone()), run(kept)
	if !(with < 0.9*without) {
		t.Errorf("error %v with a search of the parts, %v without", with, without)
	}
}

// The order of columns is by ascending mean diagonal of runs, which stay together.
func TestOrderOfRuns(t *testing.T) {
	h := make([]float32, 6*6)
	for i, v := range []float32{9, 1, 2, 3, 8, 4} {
		h[i*6+i] = v
	}
	for run, want := range map[int][]int32{1: {1, 2, 3, 5, 4, 0}, 2: {2, 3, 0, 1, 4, 5}, 3: {0, 1, 2, 3, 4, 5}} {
		f, err := NewFactor(nil, slices.Clone(h), 6, DefaultDamping, run)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.Order(), want) || f.Run() != run {
			t.Errorf("runs of %d: order %v, want %v", run, f.Order(), want)
		}
	}
	if _, err := NewFactor(nil, h, 6, DefaultDamping, 0); err == nil {
		t.Error("runs of 0 columns are accepted")
	}
}
