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
func ExampleGrid() {
	g := grid.Block{Type: ggml.Q4_0}
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
	f, err := gptq.NewFactor(nil, h, cols, gptq.DefaultDamping, g.Run())
	if err != nil {
		log.Fatal(err)
	}
	plain, _, err := g.Quantize(nil, grid.Source{F32: w}, rows, cols, nil)
	if err != nil {
		log.Fatal(err)
	}
	packed, _, err := g.Compensate(nil, grid.Source{F32: w}, rows, cols, f, nil)
	if err != nil {
		log.Fatal(err)
	}

	// outputError is the squared error of the output over all tokens.
	outputError := func(data grid.Data) (sum float64) {
		got := make([]float32, rows*cols)
		weights, err := g.Weights(data, rows, cols)
		if err != nil {
			log.Fatal(err)
		}
		if err := weights(got, 0, rows); err != nil {
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
	fmt.Println(len(packed[0]), "bytes")
	fmt.Println("less than a third of the error:", outputError(packed) < outputError(plain)/3)
	// Output:
	// 288 bytes
	// less than a third of the error: true
}
