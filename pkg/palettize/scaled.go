package palettize

import "math"

// refits is how often the row scales are fitted to the table and the table to
// them. Each round lowers the error or is not taken; after the second there is
// little left to win.
const refits = 2

// scaled fits and writes group g with a scale for each row: the table is fitted to
// the weights over their row's scale, where an error counts with the square of
// that. The first scales are the rows' largest magnitudes; then, in turn, each
// scale becomes the least-squares factor of the entries that its row uses, and the
// table is fitted anew.
func (w *worker) scaled(g int) (Report, error) {
	m := w.m
	first := g * m.GroupRows
	rows := min(m.GroupRows, m.Rows-first)
	lo := first * m.Cols
	n := rows * m.Cols
	w.plain = grow(w.plain, n)
	for i := range w.plain {
		v := w.weight(lo + i)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Report{}, &ValueError{Row: (lo + i) / m.Cols, Col: i % m.Cols, Value: v, Reason: notFinite}
		}
		w.plain[i] = v
	}
	scales := m.RowScale[first : first+rows]
	for r := range scales {
		largest := 0.0
		for _, v := range w.plain[r*m.Cols : (r+1)*m.Cols] {
			largest = max(largest, math.Abs(v))
		}
		scales[r], _ = roundF16(min(largest, maxF16))
	}
	k, rb := 1<<m.Bits, m.RowBytes()
	lut, out := m.LUT[g*k:(g+1)*k], m.Indices[first*rb:(first+rows)*rb]
	if err := w.fitScaled(lut, scales, lo); err != nil {
		return Report{}, err
	}
	norm := 0.0
	report, cost := w.assignScaled(out, lut, scales)
	for _, v := range w.plain {
		norm += v * v
	}
	w.kept.scales, w.kept.lut, w.kept.out = grow(w.kept.scales, rows), grow(w.kept.lut, k), grow(w.kept.out, len(out))
	for range refits {
		copy(w.kept.scales, scales)
		copy(w.kept.lut, lut)
		copy(w.kept.out, out)
		w.rescale(scales, lut)
		err := w.fitScaled(lut, scales, lo)
		better, less := report, cost
		if err == nil {
			better, less = w.assignScaled(out, lut, scales)
		}
		if err != nil || !(less < cost) {
			copy(scales, w.kept.scales)
			copy(lut, w.kept.lut)
			copy(out, w.kept.out)
			break
		}
		report, cost = better, less
	}
	report.SquaredNorm = norm
	return report, nil
}

// weight returns the weight at index i of the matrix.
func (w *worker) weight(i int) float64 {
	switch {
	case w.src.F16 != nil:
		return fp16.value(w.src.F16[i])
	case w.src.BF16 != nil:
		return bf16.value(w.src.BF16[i])
	}
	return float64(w.src.F32[i])
}

// cell is the width of the cells that weights over their scale are gathered in for
// a fit, each with its mean: sorting tens of thousands of distinct quotients for
// every fit would take several times as long. Entries lie some 500 cells apart at 4
// bit, and the squared error rises by less than a millionth.
const cell = 1.0 / (1 << 13)

// cells cover quotients in [-reach, reach]; those of first scales end at 1, and
// refits move them little.
const (
	reach = 2
	cells = 2*reach/cell + 1
)

// grid gathers weighted values in cells.
type grid struct {
	weight, moment [cells]float64 // Σ cost, Σ cost·value
	values, costs  []float64      // of the cells that hold anything, ascending
	entry          [cells]uint8   // place in the palette of the lower end of the cell
}

// locate fills entry.
func (g *grid) locate(p *palette) {
	j := 0
	for i := range g.entry {
		for float64(i)*cell-reach > p.above[j] {
			j++
		}
		g.entry[i] = uint8(j)
	}
}

// nearest is palette.nearest for a quotient.
func (g *grid) nearest(p *palette, q float64) uint8 {
	if !(math.Abs(q) <= reach) {
		return p.nearest(q)
	}
	j := g.entry[int((q+reach)*(1/cell))]
	for q > p.above[j] {
		j++
	}
	for j > 0 && q <= p.above[j-1] { // the sum was rounded up to the next cell
		j--
	}
	return p.first[j]
}

// fitScaled writes the optimal table for the weights of the group, which begins at
// index lo of the matrix, over their scales.
func (w *worker) fitScaled(lut, scales []uint16, lo int) error {
	if w.grid == nil {
		w.grid = new(grid)
	}
	cols, g := w.m.Cols, w.grid
	for r, h := range scales {
		s := f16Value(h)
		if s == 0 { // whatever the table holds, the row is zero
			continue
		}
		inverse, square := 1/s, s*s
		cost := square
		for c, v := range w.plain[r*cols : (r+1)*cols] {
			q := v * inverse
			if !(math.Abs(q) <= reach) {
				*g = grid{}
				return w.overflow(lo)
			}
			if w.importance != nil {
				cost = square * float64(w.importance[c])
			}
			i := int((q + reach) * (1 / cell))
			g.weight[i] += cost
			g.moment[i] += cost * q
		}
	}
	g.values, g.costs = g.values[:0], g.costs[:0]
	for i, cost := range g.weight {
		if cost > 0 {
			g.values, g.costs = append(g.values, g.moment[i]/cost), append(g.costs, cost)
			g.weight[i] = 0
		}
		g.moment[i] = 0
	}
	centroids := w.centroids[:len(lut)]
	// The cells are no exact picture either.
	w.solver.rough = true
	w.solver.Solve(g.values, g.costs, len(lut), centroids)
	w.solver.rough = false
	for i, v := range centroids {
		lut[i], _ = roundF16(v) // at most reach
	}
	return nil
}

// overflow reports the largest weight of the group, which is more than fp16 can
// express as a scale.
func (w *worker) overflow(lo int) error {
	at := 0
	for i, v := range w.plain {
		if math.Abs(v) > math.Abs(w.plain[at]) {
			at = i
		}
	}
	return &ValueError{Row: (lo + at) / w.m.Cols, Col: (lo + at) % w.m.Cols, Value: w.plain[at], Reason: tooLarge}
}

// assignScaled writes the index of the entry nearest to each weight over its
// scale, and sums the squared error of the product, plain and by importance.
func (w *worker) assignScaled(out []byte, lut, scales []uint16) (r Report, cost float64) {
	m := w.m
	w.entries.set(lut)
	w.chosen = grow(w.chosen, len(w.plain))
	e, g := &w.entries, w.grid
	g.locate(e)
	rb := m.RowBytes()
	for row, h := range scales {
		s := f16Value(h)
		inverse := 0.0
		if s != 0 {
			inverse = 1 / s
		}
		var value [1 << MaxBits]float64 // what the entries stand for in this row
		for i, h := range lut {
			value[i] = float64(float32(f16Value(h)) * float32(s))
		}
		chosen := w.chosen[row*m.Cols : (row+1)*m.Cols]
		for c, v := range w.plain[row*m.Cols : (row+1)*m.Cols] {
			i := g.nearest(e, v*inverse)
			chosen[c] = i
			d := v - value[i]
			r.SquaredError += d * d
			if w.importance != nil {
				cost += float64(w.importance[c]) * (d * d)
			}
		}
		PackRow(out[row*rb:(row+1)*rb], chosen, m.Bits)
	}
	if w.importance == nil {
		cost = r.SquaredError
	}
	return r, cost
}

// rescale sets each scale to the factor that brings the entries its row uses
// nearest to the row.
func (w *worker) rescale(scales, lut []uint16) {
	cols := w.m.Cols
	var value [1 << MaxBits]float64
	for i, e := range lut {
		value[i] = f16Value(e)
	}
	for row := range scales {
		num, den := 0.0, 0.0
		for c, v := range w.plain[row*cols : (row+1)*cols] {
			e, x := value[w.chosen[row*cols+c]], 1.0
			if w.importance != nil {
				x = float64(w.importance[c])
			}
			num += x * e * v
			den += x * e * e
		}
		if den > 0 && num > 0 {
			if h, ok := roundF16(num / den); ok && h != 0 {
				scales[row] = h
			}
		}
	}
}
