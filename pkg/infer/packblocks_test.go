package infer

import (
	"math"
	"runtime"
	"strings"
	"testing"

	"afmq/pkg/ggml"
	"afmq/pkg/grid"
)

// PackGrid has the values of ggml's dequantization in every row, also in the last ones of a
// matrix whose rows do not fill a panel, and needs no second copy of the matrix.
func TestPackGrid(t *testing.T) {
	const rows, cols = 2053, 256
	w := make([]float32, rows*cols)
	for i := range w {
		w[i] = float32(math.Sin(float64(i)))
	}
	importance := make([]float32, cols)
	for i := range importance {
		importance[i] = 1
	}
	kind := ggml.Q8_0
	g := grid.Block{Type: kind}
	size := kind.RowBytes(cols)
	data := make([]byte, rows*size)
	for r := range rows {
		if err := kind.Quantize(data[r*size:(r+1)*size], w[r*cols:(r+1)*cols], importance); err != nil {
			t.Fatal(err)
		}
	}
	if err := kind.Dequantize(w, data); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := PackGrid(g, grid.Data{data}, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := int64(after.TotalAlloc - before.TotalAlloc); got > m.Bytes()*5/4 {
		t.Errorf("%d bytes were allocated for a matrix of %d", got, m.Bytes())
	}
	row := make([]float32, cols)
	for r := range rows {
		m.Row(row, r)
		for c, v := range row {
			if v != w[r*cols+c] {
				t.Fatalf("row %d, column %d is %v, want %v", r, c, v, w[r*cols+c])
			}
		}
	}

	data[2050*size+1] = 0x7e // the factor of the first block is NaN
	if _, err := PackGrid(g, grid.Data{data}, rows, cols); err == nil || !strings.Contains(err.Error(), "NaN in row 2050, column 0") {
		t.Errorf("NaN: %v", err)
	}
	if _, err := PackGrid(g, grid.Data{data[1:]}, rows, cols); err == nil {
		t.Error("a byte is missing, and there is no error")
	}
}
