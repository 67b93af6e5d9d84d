package palettize

import (
	"math"
	"slices"

	"afmq/internal/kernel"
)

const (
	// maxQuotient is the largest quotient of a weight and its initial scale. It is 1, except
	// for rounded subnormal scales and for magnitudes above 65504.
	maxQuotient = 2
	// cellsPerEntry is the minimal number of cells per entry within one root mean square.
	// Entries are then 40 to 160 cells apart where weights are dense.
	cellsPerEntry = 8
	// minCellExp is the exponent of the narrowest cell, with which 65,536 cells cover the range.
	minCellExp = -14
	// negligible is the fraction of the total weight below which a cell is dropped, so that
	// sums of weights do not absorb it.
	negligible = 0x1p-40
)

// grid accumulates weighted quotients in cells, each represented by its centre.
type grid struct {
	weight        [1 << 16]float64 // zero between fits
	values, costs []float64        // centres and weights of the cells that are not empty, ascending
}

// cellWidth returns the width of the cells, a power of two, for quotients of root mean square
// rms.
func cellWidth(rms float64, bits int) float64 {
	_, e := math.Frexp(rms / cellsPerEntry)
	return math.Ldexp(1, max(e-1-bits, minCellExp))
}

// totals returns the total weight of all quotients, and the sum of their squares by weight.
func (s *rowScaler) totals(scales []uint16, cols int) (total, norm float64) {
	perRow := float64(cols)
	if s.importance != nil {
		perRow = 0
		for _, x := range s.importance {
			perRow += float64(x)
		}
	}
	for r, h := range scales {
		scale := f16Value(h)
		total += perRow * (scale * scale)
		norm += s.norms[r]
	}
	return total, norm
}

// firstTable writes the initial table: the k-means optimum of the weights over their row's
// scale, up to the width of the cells. The alternating fit starts from it, so it need not be
// exact.
func (w *worker) firstTable(lut, scales []uint16) {
	s := &w.scaler
	if s.grid == nil {
		s.grid = new(grid)
	}
	g, cols := s.grid, w.m.Cols
	total, norm := s.totals(scales, cols)
	if norm == 0 || total == 0 {
		clear(lut)
		return
	}
	width := cellWidth(math.Sqrt(norm/total), w.m.Bits)
	s.cells = grow(s.cells, cols)
	for r, h := range scales {
		scale := f16Value(h)
		if scale == 0 { // a row of zeros
			continue
		}
		kernel.Cells(s.cells, s.plain[r*cols:(r+1)*cols], float32(1/(scale*width)), float32(maxQuotient/width))
		cost := scale * scale
		if s.importance == nil {
			for _, i := range s.cells {
				g.weight[i] += cost
			}
			continue
		}
		for c, i := range s.cells {
			g.weight[i] += cost * float64(s.importance[c])
		}
	}
	g.values, g.costs = g.values[:0], g.costs[:0]
	kept := 0.0
	for i := range g.weight[:min(int(2*maxQuotient/width)+1, len(g.weight))] {
		if cost := g.weight[i]; cost > 0 {
			g.weight[i] = 0
			if cost > negligible*total {
				g.values, g.costs = append(g.values, (float64(i)+0.5)*width-maxQuotient), append(g.costs, cost)
				kept += cost
			}
		}
	}
	centroids := w.centroids[:len(lut)]
	w.solver.approximate = true
	w.solver.loadCounts(g.values, g.costs, kept)
	w.solver.cluster(len(lut))
	w.solver.means(centroids)
	w.solver.approximate = false
	for i, v := range centroids {
		lut[i], _ = roundF16(v) // at most reach
	}
	// Means are computed from prefix sums, where clusters of very small weight lose digits and
	// may be out of order.
	slices.SortFunc(lut, compareF16)
}
