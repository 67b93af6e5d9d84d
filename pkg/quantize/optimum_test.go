package quantize

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
)

// TestDistanceFromOptimum measures the squared error of palettes relative to that of the
// optimal tables for the same row scales, which palettize.KMeans computes from the weights
// over their row's scale. It measures the embedded model, whose figures docs/quality.md must
// have, in the columns A, B and B by projection. With AFMQ_MODEL it measures that checkpoint, and also the squared error
// relative to that of Lloyd's algorithm over scales and tables, run to convergence from the
// stored ones:
//
//	AFMQ_MODEL=/models/afm-mini go test -v -run DistanceFromOptimum ./pkg/quantize
func TestDistanceFromOptimum(t *testing.T) {
	dir, converge := os.Getenv("AFMQ_MODEL"), true
	if dir == "" {
		dir, converge = tinyModel, false
	}
	src, err := artifact.OpenSource(bg, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	pool := newPool(t, 0)
	for _, bits := range []int{2, 3, 4} {
		row := fmt.Sprintf("| embedded | %d |", bits)
		for _, scaled := range []bool{false, true} {
			var stored, best, converged float64
			low, high := math.Inf(1), 0.0
			for i := range src.Tensors {
				x := &src.Tensors[i]
				if x.Spec.Role != model.Projection {
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
				groups := make([][2]float64, m.Groups())
				pool.Run(len(groups), func(_, g int) {
					groups[g][0] = optimalTableError(m, w, g)
					if scaled && converge {
						groups[g][1] = convergedError(m, w, g)
					}
				})
				least := 0.0
				for _, g := range groups {
					least += g[0]
					converged += g[1]
				}
				stored, best = stored+report.SquaredError, best+least
				low, high = min(low, report.SquaredError/least-1), max(high, report.SquaredError/least-1)
			}
			t.Logf("%d bits, row scales %v: squared error %.4f %% above that of the optimal tables, %.4f to %.4f %% by projection", bits, scaled, 100*(stored/best-1), 100*low, 100*high)
			row += tableCells(100*(stored/best-1), 100*low, 100*high, scaled)
			if converged > 0 {
				t.Logf("%d bits: squared error %.2f %% above that of the converged fit", bits, 100*(stored/converged-1))
			}
			if low < -1e-9 || high > 0.005 {
				t.Errorf("%d bits, row scales %v: %v to %v above the optimum, want 0 to 0.005", bits, scaled, low, high)
			}
		}
		if !converge && !strings.Contains(readQualityPage(t), row) {
			t.Errorf("docs/quality.md does not have the row %s", row)
		}
	}
}

// tableCells returns the cells of docs/quality.md for an excess in per cent.
func tableCells(excess, low, high float64, scaled bool) string {
	switch {
	case scaled:
		return fmt.Sprintf(" %.3f %% | %.3f to %.3f %% |", excess, low, high)
	case excess < 0.00005:
		return " < 0.0001 % |"
	}
	return fmt.Sprintf(" %.4f %% |", excess)
}

func readQualityPage(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/quality.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// groupRows returns the rows of group g.
func groupRows(m *palettize.Matrix, g int) (first, end int) {
	return g * m.GroupRows, min((g+1)*m.GroupRows, m.Rows)
}

func rowScale(m *palettize.Matrix, r int) float64 {
	if m.RowScale == nil {
		return 1
	}
	return halfValue(m.RowScale[r])
}

// optimalTableError returns the squared error of the optimal table, in float64, for the
// weights w of group g and the row scales of m.
func optimalTableError(m *palettize.Matrix, w []float32, g int) float64 {
	type point struct{ value, weight float64 }
	var points []point
	first, end := groupRows(m, g)
	for r := first; r < end; r++ {
		scale := rowScale(m, r)
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
	return new(palettize.KMeans).Solve(values, weights, 1<<m.Bits, make([]float64, 1<<m.Bits))
}

// convergedError runs Lloyd's algorithm over the scales and the table of group g, in float64
// from the stored ones until a round lowers the squared error by less than 1e-6, and returns
// the squared error.
func convergedError(m *palettize.Matrix, w []float32, g int) float64 {
	k := 1 << m.Bits
	first, end := groupRows(m, g)
	table, scales := make([]float64, k), make([]float64, end-first)
	for i := range table {
		table[i] = halfValue(m.LUT[g*k+i])
	}
	for r := range scales {
		scales[r] = rowScale(m, first+r)
	}
	count, sum := make([]float64, len(scales)*k), make([]float64, len(scales)*k)
	for last := math.Inf(1); ; {
		clear(count)
		clear(sum)
		total := 0.0
		slices.Sort(table)
		for r, scale := range scales {
			for _, x := range w[(first+r)*m.Cols : (first+r+1)*m.Cols] {
				v := float64(x)
				j := 0
				if scale > 0 {
					if j = min(sort.SearchFloat64s(table, v/scale), k-1); j > 0 && v/scale-table[j-1] < table[j]-v/scale {
						j--
					}
				}
				d := v - scale*table[j]
				total += d * d
				count[r*k+j]++
				sum[r*k+j] += v
			}
		}
		if total >= last*(1-1e-6) {
			return min(total, last)
		}
		last = total
		for r := range scales {
			fitOne(&scales[r], k, func(j int) (float64, float64, float64) { return table[j], count[r*k+j], sum[r*k+j] })
		}
		for j := range table {
			fitOne(&table[j], len(scales), func(r int) (float64, float64, float64) { return scales[r], count[r*k+j], sum[r*k+j] })
		}
	}
}

// fitOne sets x to the value that minimizes Σ n·(x·y - t/n)² over n triples y, n, t.
func fitOne(x *float64, n int, at func(i int) (y, n, t float64)) {
	num, den := 0.0, 0.0
	for i := range n {
		y, n, t := at(i)
		num += y * t
		den += y * y * n
	}
	if den > 0 {
		*x = num / den
	}
}
