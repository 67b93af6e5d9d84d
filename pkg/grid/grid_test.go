package grid

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"afmq/pkg/compute"
	"afmq/pkg/ggml"
	"afmq/pkg/gptq"
	"afmq/pkg/safetensors"
)

// types are those with codes.
func types() (out []ggml.Type) {
	for _, t := range ggml.Types() {
		if t.HasCodes() {
			out = append(out, t)
		}
	}
	return out
}

// grids are all but palettes.
func grids() (out []Grid) {
	for _, t := range types() {
		out = append(out, Block{t})
	}
	for _, bits := range []int{2, 3, 4, 5, 6, 8} {
		out = append(out, Affine{Bits: bits, Group: 64}, Integer{Bits: bits, Group: 128}, Integer{Bits: bits, ZeroPoint: true, Group: 32})
	}
	return append(out, Affine{Bits: 4, Group: 32, Scales: safetensors.BF16}, Affine{Bits: 3, Group: 128}, Integer{Bits: 7, Scales: safetensors.BF16},
		Integer{Bits: 4}, Integer{Bits: 3, ZeroPoint: true})
}

// hessian returns the second moments of n inputs that depend on few causes.
func hessian(r *rand.Rand, n int) []float32 {
	x := mat.NewDense(3*n, n, nil)
	for i := range 3 * n {
		var cause [6]float64
		for k := range cause {
			cause[k] = r.NormFloat64()
		}
		for j := range n {
			x.Set(i, j, 0.4*r.NormFloat64()+cause[j%6]+cause[j*j%6])
		}
	}
	var h mat.SymDense
	h.SymOuterK(1, x.T())
	out := make([]float32, n*n)
	for i := range n {
		for j := range n {
			out[i*n+j] = float32(h.At(i, j))
		}
	}
	return out
}

// outputError returns tr(E·H·Eᵀ) of a stored matrix in float64, with H damped as a Factor does.
func outputError(t *testing.T, g Grid, data Data, w, h []float32, rows, cols int) float64 {
	t.Helper()
	mean := 0.0
	for i := range cols {
		mean += float64(h[i*cols+i]) / float64(cols)
	}
	damped := mat.NewSymDense(cols, nil)
	for i := range cols {
		for j := range i + 1 {
			damped.SetSym(i, j, float64(h[i*cols+j]))
		}
		damped.SetSym(i, i, float64(h[i*cols+i])*(1+gptq.DefaultDamping)+0.01*gptq.DefaultDamping*mean)
	}
	weights, err := g.Weights(data, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	got := make([]float32, cols)
	for r := range rows {
		if err := weights(got, r, r+1); err != nil {
			t.Fatal(err)
		}
		e := mat.NewVecDense(cols, nil)
		for i, v := range got {
			e.SetVec(i, float64(w[r*cols+i])-float64(v))
		}
		sum += mat.Inner(e, damped, e)
	}
	return sum
}

// Compensation lowers the error of the output, what it reports is that of the stored weights, and
// neither depends on the number of threads.
func TestCompensate(t *testing.T) {
	const rows, cols = 70, 512
	r := rand.New(rand.NewPCG(5, 6))
	h := hessian(r, cols)
	w := make([]float32, rows*cols)
	for i := range w {
		w[i] = float32(r.NormFloat64() * (1 + float64(i/cols%5)))
	}
	importance := make([]float32, cols)
	for i := range importance {
		importance[i] = h[i*cols+i]
	}
	pool, one := compute.NewPool(3), compute.NewPool(1)
	defer pool.Close()
	defer one.Close()
	f, err := gptq.NewFactor(pool, append([]float32(nil), h...), cols, gptq.DefaultDamping, 128)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range grids() {
		plain, report, err := g.Quantize(pool, Source{F32: w}, rows, cols, importance)
		if err != nil {
			t.Fatal(err)
		}
		if e := report.SquaredError / report.SquaredNorm; !(e > 0 && e < 0.2) {
			t.Errorf("%v: relative squared error %v", g, e)
		}
		if e := weightError(t, g, plain, w, rows, cols); math.Abs(report.SquaredError-e) > 1e-6*e {
			t.Errorf("%v: reports a squared error of %v, the stored weights have %v", g, report.SquaredError, e)
		}
		data, report, err := g.Compensate(pool, Source{F32: w}, rows, cols, f, nil)
		if err != nil {
			t.Fatal(err)
		}
		before, after := outputError(t, g, plain, w, h, rows, cols), outputError(t, g, data, w, h, rows, cols)
		t.Logf("%v: output error %.3f of plain", g, after/before)
		if !(after < 0.7*before) {
			t.Errorf("%v: output error %v, plain %v", g, after, before)
		}
		if math.Abs(report.OutputError-after) > 1e-3*after {
			t.Errorf("%v: reports %v, the stored weights have %v", g, report.OutputError, after)
		}
		again, _, err := g.Compensate(one, Source{F32: w}, rows, cols, f, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(again, data, bytes.Equal) {
			t.Errorf("%v: other bytes with one thread", g)
		}
	}
}

func weightError(t *testing.T, g Grid, data Data, w []float32, rows, cols int) (sum float64) {
	t.Helper()
	weights, err := g.Weights(data, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, rows*cols)
	if err := weights(got, 0, rows); err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		sum += (float64(w[i]) - float64(v)) * (float64(w[i]) - float64(v))
	}
	return sum
}

func TestRefused(t *testing.T) {
	nan := float32(math.NaN())
	w := make([]float32, 512)
	w[300] = nan
	for _, g := range []Grid{Block{ggml.Q4_K}, Affine{Bits: 4, Group: 64}, Integer{Bits: 4}} {
		var bad *ValueError
		if _, _, err := g.Quantize(nil, Source{F32: w}, 2, 256, nil); !errors.As(err, &bad) || bad.Row != 1 || bad.Col != 44 {
			t.Errorf("%v: NaN: %v", g, err)
		}
	}
	w[300] = 70000
	for _, g := range []Grid{Affine{Bits: 4, Group: 64}, Integer{Bits: 4, Group: 128}} {
		h := make([]float32, 256*256)
		for i := range 256 {
			h[i*257] = 1
		}
		f, err := gptq.NewFactor(nil, h, 256, gptq.DefaultDamping, 128)
		if err != nil {
			t.Fatal(err)
		}
		var bad *ValueError
		if _, _, err := g.Compensate(nil, Source{F32: w}, 2, 256, f, nil); !errors.As(err, &bad) || bad.Row != 1 || bad.Col != 44 || !strings.Contains(err.Error(), "too large for the scales") {
			t.Errorf("%v: a weight beyond fp16: %v", g, err)
		}
	}
	wide := Affine{Bits: 4, Group: 64, Scales: safetensors.BF16}
	if _, _, err := wide.Quantize(nil, Source{F32: w}, 2, 256, nil); err != nil {
		t.Errorf("a weight beyond fp16 with scales in BF16: %v", err)
	}
	for g, cols := range map[Grid]int{
		Block{ggml.Q4_K}: 320, Block{ggml.F16}: 256, Affine{Bits: 4, Group: 64}: 96, Affine{Bits: 7, Group: 64}: 128, Affine{Bits: 1, Group: 64}: 128,
		Affine{Bits: 4, Group: 16}: 128, Integer{Bits: 9}: 128, Integer{Bits: 1}: 128, Integer{Bits: 4, Group: 128}: 320, Integer{Bits: 4, Group: 48}: 96,
	} {
		if err := g.Check(cols); err == nil {
			t.Errorf("%v: %d columns are accepted", g, cols)
		}
	}
	for g, cols := range map[Grid]int{Block{ggml.Q8_0}: 320, Affine{Bits: 4, Group: 64}: 320, Integer{Bits: 4}: 7, Palette{Bits: 4, GroupRows: 16}: 7} {
		if err := g.Check(cols); err != nil {
			t.Errorf("%v, %d columns: %v", g, cols, err)
		}
	}
}
