package palettize

import (
	"math"
	"slices"

	"afmq/internal/kernel"
)

const (
	// settleRounds is how often, at most, scales and table are fitted to the entries that
	// the weights chose and the weights choose anew. The last three win about a third of a
	// per cent of the error together.
	settleRounds = 8
	// settled is the part of the error that a round must win for another to follow.
	settled = 1e-3
	// descents is how often a round fits scales and table to each other.
	descents = 2
)

// rowScaler is what a worker needs to fit row scales. Rows are those of one group.
type rowScaler struct {
	importance []float32 // [cols]; nil where every column counts the same
	plain      []float32 // [rows, cols] the weights
	norms      []float64 // [rows] Σ w², by importance
	chosen     []uint8   // [rows, cols] index of the entry that each weight chose
	count, sum []float64 // [rows, 2^bits] number and sum of the weights of an entry, by importance
	fitted     []float64 // [rows] scales before they are rounded
	cells      []uint16  // [cols] cell of each weight of a row
	grid       *grid
	tree       kernel.Thresholds
	value      [1 << MaxBits]float32 // what the entries stand for in a row
	kept       struct {
		scales, lut []uint16
		chosen      []uint8
	}
}

// scaled fits and writes group g with a scale for each row: the table is fitted to
// the weights over their row's scale, where an error counts with the square of
// that. Then, in turn, scales and table become the least-squares fit to the entries
// that the weights chose, and every weight chooses the nearest entry.
func (w *worker) scaled(g int) (Report, error) {
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
	w.fitScaled(lut, scales)
	w.settle(lut, scales)
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

// load widens rows first to first+rows-1 of the matrix.
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

// firstScales sets the scales to the rows' largest magnitudes, and the norms, and returns
// Σ w², every weight counted once. A start from less, towards the root mean square, leaves
// a smaller error at 2 and 3 bits, but of the kind that costs more divergence.
func (w *worker) firstScales(scales []uint16, first int) (norm float64, err error) {
	m, s := w.m, &w.scaler
	s.norms = grow(s.norms, len(scales))
	for r := range scales {
		row := s.plain[r*m.Cols : (r+1)*m.Cols]
		largest := float64(math.Float32frombits(kernel.MaxMagnitude(row)))
		if !(largest <= math.MaxFloat32) {
			lo := (first + r) * m.Cols
			return 0, w.find(lo, lo+m.Cols, notFinite, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
		}
		if largest > reach*maxF16 {
			lo, most := first*m.Cols, w.largest()
			return 0, w.find(lo, lo+len(s.plain), tooLarge, func(v float64) bool { return math.Abs(v) == most })
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

// settle improves table and scales, and leaves the best in lut and scales and what the
// weights choose from them in chosen. A round that does not lower the error is not
// taken.
func (w *worker) settle(lut, scales []uint16) {
	s := &w.scaler
	best := math.Inf(1)
	for round := 0; ; round++ {
		cost := w.choose(lut, scales)
		if round > 0 && !(cost < best) {
			copy(lut, s.kept.lut)
			copy(scales, s.kept.scales)
			s.chosen, s.kept.chosen = s.kept.chosen, s.chosen
			return
		}
		if round == settleRounds || best-cost < settled*best {
			return
		}
		best = cost
		s.kept.lut = append(s.kept.lut[:0], lut...)
		s.kept.scales = append(s.kept.scales[:0], scales...)
		s.chosen, s.kept.chosen = s.kept.chosen, s.chosen
		s.refit(lut, scales)
	}
}

// refit fits scales and table to each other for the entries that the weights chose: with
// n weights of sum t in row r that chose entry e, the error is Σ n·(s[r]·e - t/n)² and a
// constant. Each step is the least-squares factor of a row's entries, then the
// least-squares entry of all rows. What is not fixed by any weight stays, as does what
// fp16 cannot hold.
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
	for range descents {
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
	slices.SortFunc(lut, compareF16) // an entry that nothing chose may have been overtaken
}
