package quantize

import (
	"cmp"
	"math"
	"os"
	"slices"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/palettize"
)

// TestDistanceFromOptimum measures how far the tables of palettes with row scales are from
// the optimum for the same scales, which palettize.KMeans computes from the weights over
// their row's scale. It measures the embedded model, or the checkpoint that AFMQ_MODEL
// names, and prints the figures of docs/quality.md:
//
//	AFMQ_MODEL=models/afm-mini go test -v -run DistanceFromOptimum ./pkg/quantize
func TestDistanceFromOptimum(t *testing.T) {
	dir := os.Getenv("AFMQ_MODEL")
	if dir == "" {
		dir = tinyModel
	}
	src, err := artifact.OpenSource(bg, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	pool := newPool(t, 0)
	widths := []int{2, 3, 4}
	if testing.Short() {
		widths = widths[:1]
	}
	for _, bits := range widths {
		for _, scaled := range []bool{false, true} {
			sum, least, low, high := 0.0, 0.0, math.Inf(1), 0.0
			for i := range src.Tensors {
				x := &src.Tensors[i]
				if !slices.Contains([]string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, x.Spec.Kind) || len(x.Spec.Shape) != 2 {
					continue
				}
				w := make([]float32, x.Tensor.NumElements())
				if err := x.Tensor.Float32(w, 0); err != nil {
					t.Fatal(err)
				}
				m, report, err := palettize.Palettize(pool, palettize.Source{F32: w}, x.Spec.Shape[0], x.Spec.Shape[1], palettize.Options{Bits: bits, NoRowScale: !scaled})
				if err != nil {
					t.Fatal(err)
				}
				best := leastError(m, w)
				sum, least = sum+report.SquaredError, least+best
				low, high = min(low, report.SquaredError/best-1), max(high, report.SquaredError/best-1)
			}
			t.Logf("%d bits, row scales %v: squared error %.4f %% above the optimum, %.4f to %.4f %% by matrix", bits, scaled, 100*(sum/least-1), 100*low, 100*high)
			if limit := 0.005; low < -1e-9 || high > limit {
				t.Errorf("%d bits, row scales %v: %v to %v above the optimum, want 0 to %v", bits, scaled, low, high, limit)
			}
		}
	}
}

// leastError returns the squared error of the optimal tables, in float64, for the weights w
// and the row scales of m.
func leastError(m *palettize.Matrix, w []float32) float64 {
	type point struct{ value, weight float64 }
	var sum float64
	solver := new(palettize.KMeans)
	for first := 0; first < m.Rows; first += m.GroupRows {
		var points []point
		for r := first; r < min(first+m.GroupRows, m.Rows); r++ {
			scale := 1.0
			if m.RowScale != nil {
				scale = halfValue(m.RowScale[r])
			}
			if scale == 0 {
				continue // a row of zeros has no error
			}
			for _, v := range w[r*m.Cols : (r+1)*m.Cols] {
				points = append(points, point{float64(v) / scale, scale * scale})
			}
		}
		slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.value, b.value) })
		values, weights := make([]float64, len(points)), make([]float64, len(points))
		for i, p := range points {
			values[i], weights[i] = p.value, p.weight
		}
		sum += solver.Solve(values, weights, 1<<m.Bits, make([]float64, 1<<m.Bits))
	}
	return sum
}
