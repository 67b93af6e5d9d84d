package palettize

import (
	"math"
	"slices"

	"afmq/internal/kernel"
)

const (
	// reach is the largest quotient of a weight and its scale: those of first scales end
	// at 1, but for the rounding of subnormal scales and for magnitudes past 65504.
	reach = 2
	// cellsPerEntry is how many cells, at least, an entry has in a range of one root mean
	// square. Entries then lie some 40 to 160 cells apart where weights are dense.
	cellsPerEntry = 8
	// finest is the exponent of the narrowest cell, for which 65,536 cover the reach.
	finest = -14
	// negligible is the part of all weight below which a cell is left out: sums of weights
	// must still tell it from nothing.
	negligible = 0x1p-40
)

// grid gathers weighted quotients in cells, each of which stands for its middle.
type grid struct {
	weight        [1 << 16]float64 // zero between fits
	values, costs []float64        // of the cells that hold anything, ascending
}

// cellWidth returns the width of the cells for quotients of root mean square rms, a power
// of two.
func cellWidth(rms float64, bits int) float64 {
	_, e := math.Frexp(rms / cellsPerEntry)
	return math.Ldexp(1, max(e-1-bits, finest))
}

// fitScaled writes the optimal table for the weights of the group over their scales, as
// far as cells tell them apart. That is where the search for table and scales begins, so
// nothing more precise is asked for.
func (w *worker) fitScaled(lut, scales []uint16) {
	s := &w.scaler
	if s.grid == nil {
		s.grid = new(grid)
	}
	g, cols := s.grid, w.m.Cols
	perRow := float64(cols)
	if s.importance != nil {
		perRow = 0
		for _, x := range s.importance {
			perRow += float64(x)
		}
	}
	total, norm := 0.0, 0.0 // weight of all quotients, and that times their squares
	for r, h := range scales {
		scale := f16Value(h)
		total += perRow * (scale * scale)
		norm += s.norms[r]
	}
	if norm == 0 || total == 0 {
		clear(lut)
		return
	}
	width := cellWidth(math.Sqrt(norm/total), w.m.Bits)
	s.cells = grow(s.cells, cols)
	for r, h := range scales {
		scale := f16Value(h)
		if scale == 0 { // whatever the table holds, the row is zero
			continue
		}
		kernel.Cells(s.cells, s.plain[r*cols:(r+1)*cols], float32(1/(scale*width)), float32(reach/width))
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
	for i := range g.weight[:min(int(2*reach/width)+1, len(g.weight))] {
		if cost := g.weight[i]; cost > 0 {
			g.weight[i] = 0
			if cost > negligible*total {
				g.values, g.costs = append(g.values, (float64(i)+0.5)*width-reach), append(g.costs, cost)
				kept += cost
			}
		}
	}
	centroids := w.centroids[:len(lut)]
	// The cells are no exact picture either.
	w.solver.rough = true
	w.solver.loadCounts(g.values, g.costs, kept)
	w.solver.cluster(len(lut))
	w.solver.means(centroids)
	w.solver.rough = false
	for i, v := range centroids {
		lut[i], _ = roundF16(v) // at most reach
	}
	// Means come from prefix sums, in which clusters of next to no weight lose their digits.
	slices.SortFunc(lut, compareF16)
}
