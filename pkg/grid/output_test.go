package grid

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"afmq/internal/correlated"
	"afmq/pkg/compute"
	"afmq/pkg/ggml"
	"afmq/pkg/gptq"
)

// lossError returns tr(G·E·H·Eᵀ) of stored weights in float64, with moments that are not damped.
func lossError(t *testing.T, g Grid, data Data, w, moment, h []float32, rows, cols int) float64 {
	t.Helper()
	weights, err := g.Weights(data, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, rows*cols)
	if err := weights(got, 0, rows); err != nil {
		t.Fatal(err)
	}
	e := mat.NewDense(rows, cols, nil)
	for i, v := range got {
		e.Set(i/cols, i%cols, float64(w[i])-float64(v))
	}
	var ge, eh mat.Dense
	ge.Mul(dense(moment, rows), e)
	eh.Mul(e, dense(h, cols))
	sum := 0.0
	for r := range rows {
		sum += mat.Dot(ge.RowView(r), eh.RowView(r))
	}
	return sum
}

func dense(v []float32, n int) *mat.Dense {
	d := mat.NewDense(n, n, nil)
	for i, x := range v {
		d.Set(i/n, i%n, float64(x))
	}
	return d
}

// With the moment of the gradients of its outputs, a matrix raises the loss less, whatever the grid; so
// it does with their squares, where rows share parameters. The result does not depend on threads, and
// the report is of the stored weights.
func TestCompensateLoss(t *testing.T) {
	const rows, cols = 150, 256
	r := rand.New(rand.NewPCG(7, 8))
	pool, one := compute.NewPool(3), compute.NewPool(1)
	defer pool.Close()
	defer one.Close()
	h, moment := correlated.Moment(pool, r, 3*cols, cols), correlated.Moment(pool, r, 3*rows, rows)
	for i := range rows { // some outputs matter far more
		for k := range rows {
			moment[i*rows+k] *= float32(math.Exp(float64(i%7-3))) * float32(math.Exp(float64(k%7-3)))
		}
	}
	squares := make([]float32, rows)
	for i := range squares {
		squares[i] = moment[i*rows+i]
	}
	w := make([]float32, rows*cols)
	for i := range w {
		w[i] = float32(r.NormFloat64() * (1 + float64(i/cols%5)))
	}
	f, err := gptq.NewFactor(pool, slices.Clone(h), cols, gptq.DefaultDamping, 256)
	if err != nil {
		t.Fatal(err)
	}
	damped, dampedInput := slices.Clone(moment), slices.Clone(h)
	mean, meanInput := 0.0, 0.0
	for i := range rows {
		mean += float64(moment[i*rows+i]) / rows
	}
	for i := range cols {
		meanInput += float64(h[i*cols+i]) / cols
	}
	const few = gptq.OutputDamping + 4./400 // 400 times as many tokens as outputs
	for i := range rows {
		damped[i*rows+i] += float32(few * (float64(moment[i*rows+i]) + 0.01*mean))
	}
	for i := range damped {
		damped[i] /= float32(mean)
	}
	for i := range cols {
		dampedInput[i*cols+i] += float32(gptq.DefaultDamping * (float64(h[i*cols+i]) + 0.01*meanInput))
	}
	full, err := gptq.NewOutput(slices.Clone(moment), rows, 400*rows)
	if err != nil {
		t.Fatal(err)
	}
	diagonal, err := gptq.NewOutputDiagonal(squares)
	if err != nil {
		t.Fatal(err)
	}
	if diagonal.Full() || !full.Full() || (*gptq.Output)(nil).Full() {
		t.Error("a diagonal is full, or a moment is not")
	}
	for _, g := range []Grid{
		Palette{Bits: 2, GroupRows: 16, RowScale: true}, Palette{Bits: 4, GroupRows: 16}, Palette{Bits: 3, GroupRows: 48, RowScale: true},
		Block{ggml.Q2_K}, Block{ggml.Q4_K}, Block{ggml.IQ4_NL}, Affine{Bits: 4, Group: 64}, Integer{Bits: 3, Group: 32, ZeroPoint: true},
	} {
		loss := func(pool *compute.Pool, out *gptq.Output) (float64, Data) {
			data, report, err := g.Compensate(pool, Source{F32: w}, rows, cols, f, out)
			if err != nil {
				t.Fatal(err)
			}
			if out.Full() {
				if want := lossError(t, g, data, w, damped, dampedInput, rows, cols); math.Abs(report.OutputError-want) > 1e-3*want || !(report.PlainError > want) {
					t.Errorf("%v: reports %+v, the stored weights have a loss of %v", g, report, want)
				}
			}
			return lossError(t, g, data, w, moment, h, rows, cols), data
		}
		plain, _ := loss(pool, nil)
		weighted, _ := loss(pool, diagonal)
		together, data := loss(pool, full)
		t.Logf("%v: of the loss without the moment, %.3f with squares, %.3f with all", g, weighted/plain, together/plain)
		if !(together < 0.8*plain) {
			t.Errorf("%v: loss %v, without the moment %v", g, together, plain)
		}
		if _, ok := g.(Palette); ok && !(weighted < 0.98*plain) {
			t.Errorf("%v: loss %v with the squares, without %v", g, weighted, plain)
		}
		if _, again := loss(one, full); !slices.EqualFunc(again, data, bytes.Equal) {
			t.Errorf("%v: other bytes with one thread", g)
		}
	}
	if _, _, err := (Palette{Bits: 4, GroupRows: 16}).Compensate(pool, Source{F32: w[:cols]}, 1, cols, f, full); err == nil {
		t.Error("took the outputs of another matrix")
	}
}
