package palettize

import (
	"math"
	"slices"

	"afmq/internal/kernel"
)

const (
	// scaleRounds limits the rounds, each of which fits scales and table to the indices and
	// assigns the weights again. The last three of them lower the error by about 0.3 % in all.
	scaleRounds = 8
	// minImprovement is the relative decrease of the error below which the rounds end.
	minImprovement = 1e-3
	// fitSteps is the number of times a round fits first the scales and then the table.
	fitSteps = 2
)

// rowScaler holds the buffers of a worker for row scales. Rows are those of one group.
type rowScaler struct {
	importance []float32 // [cols]; nil for 1 everywhere
	plain      []float32 // [rows, cols] the weights
	norms      []float64 // [rows] Σ w², weighted by importance
	chosen     []uint8   // [rows, cols] index of the entry of each weight
	count, sum []float64 // [rows, 2^bits] number and sum of the weights of an entry, weighted by importance
	fitted     []float64 // [rows] scales before rounding
	cells      []uint16  // [cols] cell of each weight of a row
	grid       *grid
	tree       kernel.Thresholds
	value      [1 << MaxBits]float32 // dequantized entries of a row
	kept       struct {
		scales, lut []uint16
		chosen      []uint8
	}
}

// groupScaled fits and writes group g with row scales. The initial table is fitted to the
// weights over their row's scale, with errors weighted by the square of the scale. Then
// rounds alternate between the least-squares fit of scales and table to the indices and the
// assignment of every weight to its nearest entry.
func (w *worker) groupScaled(g int) (Report, error) {
	m, s := w.m, &w.scaler
	first := g * m.GroupRows
	rows := min(m.GroupRows, m.Rows-first)
	s.importance = w.importance
	if !slices.ContainsFunc(s.importance, func(x float32) bool { return x > 0 }) {
		s.importance = nil
	}
	w.load(first, rows)
	scales := m.RowScale[first : first+rows]
	norm, err := w.firstScales(scales, first)
	if err != nil {
		return Report{}, err
	}
	k, rb := 1<<m.Bits, m.RowBytes()
	lut, out := m.LUT[g*k:(g+1)*k], m.Indices[first*rb:(first+rows)*rb]
	w.firstTable(lut, scales)
	w.alternate(lut, scales)
	report := Report{SquaredNorm: norm}
	for r := range scales {
		row, chosen := s.plain[r*m.Cols:(r+1)*m.Cols], s.chosen[r*m.Cols:(r+1)*m.Cols]
		scale := float32(f16Value(scales[r]))
		for i, e := range lut {
			s.value[i] = float32(f16Value(e)) * scale // exact
		}
		report.SquaredError += kernel.LookupError(row, chosen, &s.value, m.Bits)
		PackRow(out[r*rb:(r+1)*rb], chosen, m.Bits)
	}
	return report, nil
}

// load converts rows first to first+rows-1 of the matrix to float32.
func (w *worker) load(first, rows int) {
	lo, hi := first*w.m.Cols, (first+rows)*w.m.Cols
	plain := grow(w.scaler.plain, hi-lo)
	switch {
	case w.src.F16 != nil:
		kernel.F16ToF32(plain, w.src.F16[lo:hi])
	case w.src.BF16 != nil:
		kernel.BF16ToF32(plain, w.src.BF16[lo:hi])
	default:
		copy(plain, w.src.F32[lo:hi])
	}
	w.scaler.plain = plain
}

// firstScales sets the scales to the largest magnitudes of the rows, sets the norms, and
// returns Σ w² without importance. Smaller initial scales, nearer to the root mean square,
// give a smaller error at 2 and 3 bits but a larger divergence of the model.
func (w *worker) firstScales(scales []uint16, first int) (norm float64, err error) {
	m, s := w.m, &w.scaler
	s.norms = grow(s.norms, len(scales))
	for r := range scales {
		row := s.plain[r*m.Cols : (r+1)*m.Cols]
		largest := float64(math.Float32frombits(kernel.MaxMagnitude(row)))
		if !(largest <= math.MaxFloat32) {
			lo := (first + r) * m.Cols
			return 0, w.findBad(lo, lo+m.Cols, notFinite, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
		}
		if largest > maxQuotient*maxF16 {
			lo, most := first*m.Cols, w.largest()
			return 0, w.findBad(lo, lo+len(s.plain), tooLarge, func(v float64) bool { return math.Abs(v) == most })
		}
		scales[r], _ = roundF16(min(largest, maxF16))
		square := kernel.Dot(row, row)
		norm += square
		s.norms[r] = square
	}
	if s.importance != nil {
		for r := range s.norms {
			s.norms[r] = 0
			for c, v := range s.plain[r*m.Cols : (r+1)*m.Cols] {
				s.norms[r] += float64(s.importance[c]) * (float64(v) * float64(v))
			}
		}
	}
	return norm, nil
}

// largest returns the largest magnitude of the group.
func (w *worker) largest() float64 {
	return float64(math.Float32frombits(kernel.MaxMagnitude(w.scaler.plain)))
}

// alternate runs the rounds. It leaves the best table and scales in lut and scales, and
// their indices in chosen; a round that does not lower the error is discarded.
func (w *worker) alternate(lut, scales []uint16) {
	s := &w.scaler
	best := math.Inf(1)
	for round := 0; ; round++ {
		cost := w.assignGroup(lut, scales)
		if round > 0 && !(cost < best) {
			copy(lut, s.kept.lut)
			copy(scales, s.kept.scales)
			s.chosen, s.kept.chosen = s.kept.chosen, s.chosen
			return
		}
		if round == scaleRounds || best-cost < minImprovement*best {
			return
		}
		best = cost
		s.kept.lut = append(s.kept.lut[:0], lut...)
		s.kept.scales = append(s.kept.scales[:0], scales...)
		s.chosen, s.kept.chosen = s.kept.chosen, s.chosen
		s.refit(lut, scales)
	}
}

// refit fits scales and table to the present indices. If n weights of sum t in row r have
// entry e, the error is Σ n·(s[r]·e - t/n)² plus a constant. A step computes the
// least-squares scale of every row and then the least-squares value of every entry. Scales
// and entries without weights, and values outside the range of fp16, are not changed.
func (s *rowScaler) refit(lut, scales []uint16) {
	k := len(lut)
	var entry [1 << MaxBits]float64
	for j, h := range lut {
		entry[j] = f16Value(h)
	}
	s.fitted = grow(s.fitted, len(scales))
	for r, h := range scales {
		s.fitted[r] = f16Value(h)
	}
	for range fitSteps {
		for r, scale := range s.fitted {
			if scale == 0 {
				continue
			}
			num, den := 0.0, 0.0
			sum := s.sum[r*k : (r+1)*k]
			for j, n := range s.count[r*k : (r+1)*k] {
				num += entry[j] * sum[j]
				den += entry[j] * entry[j] * n
			}
			if den > 0 && num > 0 {
				s.fitted[r] = num / den
			}
		}
		for j := range k {
			num, den := 0.0, 0.0
			for r, scale := range s.fitted {
				num += scale * s.sum[r*k+j]
				den += scale * scale * s.count[r*k+j]
			}
			if den > 0 {
				entry[j] = num / den
			}
		}
	}
	for r, v := range s.fitted {
		if h, ok := roundF16(v); ok && h != 0 {
			scales[r] = h
		}
	}
	for j := range lut {
		if h, ok := roundF16(entry[j]); ok {
			lut[j] = h
		}
	}
	slices.SortFunc(lut, compareF16) // an unused entry may be out of order
}
