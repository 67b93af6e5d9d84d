package palettize_test

import (
	"errors"
	"fmt"
	"math"

	"afmq/pkg/gptq"
	"afmq/pkg/palettize"
)

// Compress a matrix of 4 rows and 6 columns to 2 bits per weight. All rows share one look-up
// table; the scales adapt it to the range of each row.
func ExamplePalettize() {
	w := []float32{
		-1, -0.5, 0.5, 1, 0.5, -0.5,
		-2, -1, 1, 2, 1, -1,
		-4, -2, 2, 4, 2, -2,
		0, 0, 0, 0, 0, 0,
	}
	m, report, err := palettize.Palettize(nil, palettize.Source{F32: w}, 4, 6, palettize.Options{Bits: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	got := make([]float32, len(w))
	m.DequantizeRows(got, 0, 4)
	fmt.Println("row 2:", got[12:18])
	fmt.Println("squared error:", report.SquaredError)
	fmt.Println("bits:", m.StoredBits())

	w[8] = float32(math.NaN())
	_, _, err = palettize.Palettize(nil, palettize.Source{F32: w}, 4, 6, palettize.Options{})
	var bad *palettize.ValueError
	fmt.Println(errors.As(err, &bad), err)
	// Output:
	// row 2: [-4 -2 2 4 2 -2]
	// squared error: 0
	// bits: 192
	// true row 1, column 2: NaN is not finite
}

// Cluster values of one dimension optimally.
func ExampleKMeans() {
	values := []float64{1, 2, 3, 10, 11, 12, 30} // ascending
	centroids := make([]float64, 3)
	var k palettize.KMeans
	sse := k.Solve(values, nil, 3, centroids)
	fmt.Println(centroids, sse)
	// Output: [2 11 30] 4
}

// Compensate the error at the output of a module whose two inputs are correlated.
func ExampleCompensate() {
	w := []float32{0.9, -0.3, 0.4, 0.8, -0.7, 0.1, 0.2, -0.6} // 4 rows, 2 columns
	h := []float32{2, 1.8, 1.8, 2}                            // Σ x·xᵀ over the calibration tokens
	f, err := gptq.NewFactor(nil, h, 2, gptq.DefaultDamping, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	m, report, err := palettize.Compensate(nil, palettize.Source{F32: w}, 4, 2, palettize.Options{Bits: 1}, f, nil, palettize.Compensation{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Rows, m.Cols, m.Bits)
	fmt.Println("error reduced:", report.OutputError < report.PlainError)
	// Output:
	// 4 2 1
	// error reduced: true
}
