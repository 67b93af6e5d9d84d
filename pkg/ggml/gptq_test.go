package ggml

import (
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// The fields serve a method that rounds weights one by one, GPTQ: the error on correlated inputs
// falls below that of rounding alone, and again when the factors are fitted to the codes.
func TestFieldsServeGPTQ(t *testing.T) {
	const n = 256
	rng := rand.New(rand.NewPCG(9, 10))
	hessian, row := correlated(rng, n), make([]float32, n)
	importance := make([]float32, n)
	for i := range row {
		// Near 1, so that no factor is subnormal in fp16: rounding those costs more than a fit gains.
		row[i] = float32(rng.NormFloat64())
		importance[i] = float32(hessian.At(i, i))
	}
	for _, kind := range codeTypes() {
		size := kind.BlockWeights()
		blocks := make([]Block, n/size)
		for i := range blocks {
			blocks[i].Type = kind
			blocks[i].Fit(row[i*size:][:size], importance[i*size:][:size])
		}
		fitted := hessianError(hessian, row, blocks)
		compensate(hessian, row, blocks)
		compensated := hessianError(hessian, row, blocks)
		for i := range blocks {
			refit(hessian, row, blocks, i)
		}
		refitted := hessianError(hessian, row, blocks)
		if !(compensated < 0.8*fitted) || !(refitted < compensated) {
			t.Errorf("%v: errors %.4g, compensated %.4g, refitted %.4g", kind, fitted, compensated, refitted)
		}
	}
}

// correlated returns the second moments of n inputs that depend on few causes.
func correlated(rng *rand.Rand, n int) *mat.SymDense {
	samples := mat.NewDense(4*n, n, nil)
	for i := range 4 * n {
		causes := [8]float64{}
		for j := range causes {
			causes[j] = rng.NormFloat64()
		}
		for j := range n {
			samples.Set(i, j, 0.3*rng.NormFloat64()+causes[j%8]+causes[j*j%8])
		}
	}
	var h mat.SymDense
	h.SymOuterK(1/float64(4*n), samples.T())
	return &h
}

// off returns what the blocks lack of the row.
func off(row []float32, blocks []Block) *mat.VecDense {
	v := mat.NewVecDense(len(row), nil)
	for i, w := range row {
		size := blocks[0].Type.BlockWeights()
		b := &blocks[i/size]
		v.SetVec(i, float64(w)-float64(b.Type.Value(b.Codes[i%size], b.Step(i%size/b.Type.PartWeights()))))
	}
	return v
}

func hessianError(h *mat.SymDense, row []float32, blocks []Block) float64 {
	d := off(row, blocks)
	return mat.Inner(d, h, d)
}

// compensate rounds the weights in order and moves the error of each to those that follow, along
// the rows of the Cholesky factor of the inverse (Frantar et al. 2022, section 3).
func compensate(h *mat.SymDense, row []float32, blocks []Block) {
	var c, ci mat.Cholesky
	var inverse mat.SymDense
	var u mat.TriDense
	if !c.Factorize(h) || c.InverseTo(&inverse) != nil || !ci.Factorize(&inverse) {
		panic("the second moments are singular")
	}
	ci.UTo(&u)
	w := append([]float32(nil), row...)
	size := blocks[0].Type.BlockWeights()
	for i := range w {
		b := &blocks[i/size]
		code, value := b.Type.Nearest(w[i], b.Step(i%size/b.Type.PartWeights()))
		b.Codes[i%size] = code
		e := float64(w[i]-value) / u.At(i, i)
		for j := i + 1; j < len(w); j++ {
			w[j] -= float32(e * u.At(i, j))
		}
	}
}

// refit fits the factors of one block to its codes in the norm of the second moments.
func refit(h *mat.SymDense, row []float32, blocks []Block, at int) {
	b, size := &blocks[at], blocks[0].Type.BlockWeights()
	b.SetFactors(0, 0)
	rest := off(row, blocks)
	d, m := mat.NewVecDense(len(row), nil), mat.NewVecDense(len(row), nil)
	for i := range size {
		x, y := b.Coefficients(i)
		d.SetVec(at*size+i, float64(x))
		m.SetVec(at*size+i, float64(y))
	}
	dd, dm, mm := mat.Inner(d, h, d), mat.Inner(d, h, m), mat.Inner(m, h, m)
	dx, mx := mat.Inner(d, h, rest), mat.Inner(m, h, rest)
	if mm == 0 {
		b.SetFactors(dx/dd, 0)
	} else {
		det := dd*mm - dm*dm
		b.SetFactors((dx*mm-mx*dm)/det, (mx*dd-dx*dm)/det)
	}
}
