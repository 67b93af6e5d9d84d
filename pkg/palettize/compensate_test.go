package palettize

import (
	"math"
	"math/rand/v2"
	"testing"

	"afmq/internal/correlated"
	"afmq/pkg/compute"
	"afmq/pkg/gptq"
)

// outputError returns tr((W-Ŵ)·H·(W-Ŵ)ᵀ) in float64 from the stored form.
func outputError(w []float32, m *Matrix, h []float32) float64 {
	got := make([]float32, m.Rows*m.Cols)
	m.DequantizeRows(got, 0, m.Rows)
	sum := 0.0
	for r := range m.Rows {
		e := make([]float64, m.Cols)
		for i := range e {
			e[i] = float64(w[r*m.Cols+i]) - float64(got[r*m.Cols+i])
		}
		for i, a := range e {
			for j, b := range e {
				sum += a * b * float64(h[i*m.Cols+j])
			}
		}
	}
	return sum
}

func TestCompensate(t *testing.T) {
	pool := compute.NewPool(3)
	defer pool.Close()
	one := compute.NewPool(1)
	defer one.Close()
	for _, c := range []struct {
		rows, cols, group, bits int
		scale                   bool
	}{{40, 33, 16, 2, false}, {70, 150, 16, 4, true}, {16, 260, 16, 3, true}, {100, 64, 100, 4, false}, {33, 48, 7, 2, true}, {20, 40, 16, 8, false}} {
		r := rand.New(rand.NewPCG(1, uint64(c.rows)))
		h := correlated.Moment(pool, r, 3*c.cols, c.cols)
		w := make([]float32, c.rows*c.cols)
		for i := range w {
			w[i] = float32(r.NormFloat64() * (1 + float64(i/c.cols%5)))
		}
		factor := func() *gptq.Factor {
			f, err := gptq.NewFactor(pool, append([]float32(nil), h...), c.cols, gptq.DefaultDamping, 1)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		opt := Options{Bits: c.bits, GroupRows: c.group, NoRowScale: !c.scale}
		plain, _, err := Palettize(pool, Source{F32: w}, c.rows, c.cols, opt)
		if err != nil {
			t.Fatal(err)
		}
		m, report, err := Compensate(pool, Source{F32: w}, c.rows, c.cols, opt, factor(), nil, Compensation{})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
		before, after := outputError(w, plain, h), outputError(w, m, h)
		t.Logf("%+v: output error %.3f of plain", c, after/before)
		if after > 0.5*before {
			t.Errorf("%+v: output error %v, plain %v", c, after, before)
		}
		damped := append([]float32(nil), h...)
		mean := 0.0
		for i := range c.cols {
			mean += float64(h[i*c.cols+i]) / float64(c.cols)
		}
		for i := range c.cols {
			damped[i*c.cols+i] += float32(gptq.DefaultDamping * (float64(h[i*c.cols+i]) + 0.01*mean))
		}
		if want := outputError(w, m, damped); math.Abs(report.OutputError-want) > 1e-4*want {
			t.Errorf("%+v: reports %v, the stored form has %v", c, report.OutputError, want)
		}
		if c.scale == (m.RowScale == nil) {
			t.Errorf("%+v: row scales: %v", c, m.RowScale)
		}
		again, _, err := Compensate(one, Source{F32: w}, c.rows, c.cols, opt, factor(), nil, Compensation{})
		if err != nil {
			t.Fatal(err)
		}
		if string(again.Indices) != string(m.Indices) {
			t.Errorf("%+v: other indices with one thread", c)
		}
		first, _, err := Compensate(pool, Source{F32: w}, c.rows, c.cols, opt, factor(), nil, Compensation{Rounds: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v: without rounds %.3f", c, outputError(w, first, h)/before)
		if outputError(w, first, h) < after {
			t.Errorf("%+v: rounds make it worse", c)
		}
	}
}
