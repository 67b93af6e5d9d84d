package grid_test

import (
	"fmt"
	"log"
	"math"

	"afmq/pkg/ggml"
	"afmq/pkg/gptq"
	"afmq/pkg/grid"
)

// Store a matrix in blocks of Q4_0 without regard to its inputs, and so that its output changes
// least on inputs whose elements are correlated.
func ExampleCompensate() {
	const rows, cols, tokens = 8, 64, 256
	w, x := make([]float32, rows*cols), make([]float32, tokens*cols)
	for i := range w {
		w[i] = float32(math.Sin(float64(i * i)))
	}
	for t := range tokens {
		for c := range cols {
			x[t*cols+c] = float32(math.Sin(float64(t*(c%4+1))) + 0.3*math.Cos(float64(t*t*(c+7))))
		}
	}
	h := make([]float32, cols*cols) // the second moment of the inputs
	for t := range tokens {
		row := x[t*cols : (t+1)*cols]
		for i, a := range row {
			for j, b := range row {
				h[i*cols+j] += a * b
			}
		}
	}
	f, err := gptq.NewFactor(nil, h, cols, gptq.DefaultDamping, grid.FactorRun)
	if err != nil {
		log.Fatal(err)
	}
	fill := func(dst []float32, r0, r1 int) error { copy(dst, w[r0*cols:r1*cols]); return nil }
	plain, _, err := grid.Quantize(nil, ggml.Q4_0, fill, rows, cols, nil)
	if err != nil {
		log.Fatal(err)
	}
	packed, _, err := grid.Compensate(nil, ggml.Q4_0, w, rows, cols, f)
	if err != nil {
		log.Fatal(err)
	}

	// outputError is the squared error of the output over all tokens.
	outputError := func(blocks []byte) (sum float64) {
		got := make([]float32, rows*cols)
		if err := ggml.Q4_0.Dequantize(got, blocks); err != nil {
			log.Fatal(err)
		}
		for t := range tokens {
			for r := range rows {
				e := 0.0
				for c := range cols {
					e += float64(w[r*cols+c]-got[r*cols+c]) * float64(x[t*cols+c])
				}
				sum += e * e
			}
		}
		return sum
	}
	fmt.Println(len(packed), "bytes")
	fmt.Println("less than a third of the error:", outputError(packed) < outputError(plain)/3)
	// Output:
	// 288 bytes
	// less than a third of the error: true
}
