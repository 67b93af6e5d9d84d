package grid

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"afmq/pkg/compute"
	"afmq/pkg/ggml"
	"afmq/pkg/gptq"
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

// outputError returns tr(E·H·Eᵀ) of the stored blocks in float64, with H damped as a Factor does.
func outputError(t *testing.T, kind ggml.Type, packed []byte, w, h []float32, rows, cols int) float64 {
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
	sum := 0.0
	got := make([]float32, cols)
	size := kind.RowBytes(cols)
	for r := range rows {
		if err := kind.Dequantize(got, packed[r*size:(r+1)*size]); err != nil {
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

// Compensation lowers the error of the output, what it reports is that of the stored bytes, and
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
	fill := func(dst []float32, r0, r1 int) error { copy(dst, w[r0*cols:r1*cols]); return nil }
	pool, one := compute.NewPool(3), compute.NewPool(1)
	defer pool.Close()
	defer one.Close()
	f, err := gptq.NewFactor(pool, append([]float32(nil), h...), cols, gptq.DefaultDamping, FactorRun)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range types() {
		plain, report, err := Quantize(pool, kind, fill, rows, cols, importance)
		if err != nil {
			t.Fatal(err)
		}
		if e := report.SquaredError / report.SquaredNorm; !(e > 0 && e < 0.2) {
			t.Errorf("%v: relative squared error %v", kind, e)
		}
		packed, report, err := Compensate(pool, kind, w, rows, cols, f)
		if err != nil {
			t.Fatal(err)
		}
		before, after := outputError(t, kind, plain, w, h, rows, cols), outputError(t, kind, packed, w, h, rows, cols)
		t.Logf("%v: output error %.3f of plain", kind, after/before)
		if !(after < 0.7*before) {
			t.Errorf("%v: output error %v, plain %v", kind, after, before)
		}
		if math.Abs(report.OutputError-after) > 1e-3*after {
			t.Errorf("%v: reports %v, the stored blocks have %v", kind, report.OutputError, after)
		}
		again, _, err := Compensate(one, kind, w, rows, cols, f)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, packed) {
			t.Errorf("%v: other bytes with one thread", kind)
		}
	}
}

func TestRefused(t *testing.T) {
	nan := float32(math.NaN())
	w := make([]float32, 512)
	w[300] = nan
	fill := func(dst []float32, r0, r1 int) error { copy(dst, w[r0*256:r1*256]); return nil }
	var bad *ValueError
	if _, _, err := Quantize(nil, ggml.Q4_K, fill, 2, 256, nil); !errors.As(err, &bad) || bad.Row != 1 || bad.Col != 44 {
		t.Errorf("NaN: %v", err)
	}
	if err := Check(ggml.Q4_K, 320); err == nil {
		t.Error("320 columns are accepted by Q4_K")
	}
	if err := Check(ggml.Q8_0, 320); err != nil {
		t.Errorf("320 columns: %v", err)
	}
	if err := Check(ggml.F16, 256); err == nil {
		t.Error("F16 is accepted")
	}
}
