package ggml_test

import (
	"fmt"
	"math"

	"afmq/pkg/ggml"
)

// A row is quantized to Q4_K. Its first weights matter more than the others.
func ExampleType_Quantize() {
	row, importance := make([]float32, 256), make([]float32, 256)
	for i := range row {
		row[i] = float32(math.Sin(float64(i * i)))
		importance[i] = 1
		if i < 32 {
			importance[i] = 10
		}
	}
	data := make([]byte, ggml.Q4_K.RowBytes(len(row)))
	if err := ggml.Q4_K.Quantize(data, row, importance); err != nil {
		fmt.Println(err)
		return
	}
	stored := make([]float32, len(row))
	if err := ggml.Q4_K.Dequantize(stored, data); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d bytes, %.3f is stored as %.3f\n", len(data), row[1], stored[1])
	// Output: 144 bytes, 0.841 is stored as 0.815
}

// Weights are rounded one by one, and each takes over the error of the one before.
func ExampleBlock_Fit() {
	weights := make([]float32, 256)
	for i := range weights {
		weights[i] = float32(i%7) - 3.2
	}
	b := ggml.Block{Type: ggml.Q2_K}
	b.Fit(weights, nil)
	var carried, sum, stored float32
	for i, w := range weights {
		code, value := b.Type.Nearest(w+carried, b.Step(i/b.Type.PartWeights()))
		b.Codes[i] = code
		carried += w - value
		sum, stored = sum+w, stored+value
	}
	fmt.Println("the sum is kept:", math.Abs(float64(sum-stored)) < 2)
	// Output: the sum is kept: true
}
