package palettize

import "math"

// worker palettizes groups, one after another; it owns its buffers.
type worker struct {
	m          *Matrix
	src        Source
	importance []float32
	solver     KMeans
	hist       histogram
	entries    palette
	centroids  [1 << MaxBits]float64
	index      *[1 << 16]uint8 // 16-bit weights: index of the entry by code
	row        []uint8         // [cols] F32 weights: the indices of a row

	scaler rowScaler
}

// group fits the table of group g, rounds it to fp16, and writes table and indices.
func (w *worker) group(g int) (Report, error) {
	if w.m.RowScale != nil {
		return w.groupScaled(g)
	}
	m, h := w.m, &w.hist
	first := g * m.GroupRows
	last := first + min(m.GroupRows, m.Rows-first)
	lo, hi := first*m.Cols, last*m.Cols
	finite := false
	switch {
	case w.src.F16 != nil:
		finite = h.count(w.src.F16[lo:hi], fp16, w.importance)
	case w.src.BF16 != nil:
		finite = h.count(w.src.BF16[lo:hi], bf16, w.importance)
	default:
		finite = h.sort(w.src.F32[lo:hi], w.importance)
	}
	if !finite {
		return Report{}, w.findBad(lo, hi, notFinite, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	}
	k := 1 << m.Bits
	w.fit(w.centroids[:k], float64(hi-lo))
	lut := m.LUT[g*k : (g+1)*k]
	for i, v := range w.centroids[:k] {
		var ok bool
		if lut[i], ok = roundF16(v); !ok {
			return Report{}, w.findBad(lo, hi, tooLarge, func(x float64) bool {
				return math.Signbit(x) == math.Signbit(v) && math.Abs(x) >= math.Abs(v)
			})
		}
	}
	w.entries.set(lut)
	rb := m.RowBytes()
	return w.write(m.Indices[first*rb:last*rb], lo, hi), nil
}

// fit writes the optimal centroids of the histogram, which counts total weights, to dst.
func (w *worker) fit(dst []float64, total float64) {
	h, s := &w.hist, &w.solver
	if len(h.values) <= len(dst) {
		// Every value has its own entry, even if its importance is 0.
		for i := range dst {
			dst[i] = h.values[min(i, len(h.values)-1)]
		}
		return
	}
	weights := h.counts
	if w.importance != nil && !allZero(h.weights) {
		weights = h.weights
	} else if w.src.F16 != nil && s.loadCounts(h.values, h.counts, total) {
		s.cluster(len(dst))
		s.means(dst)
		return
	}
	s.Solve(h.values, weights, len(dst), dst)
}

// allZero reports whether every element is 0.
func allZero(v []float64) bool {
	for _, x := range v {
		if x != 0 {
			return false
		}
	}
	return true
}

// write packs the indices of weights lo to hi-1 into out and returns the error.
func (w *worker) write(out []byte, lo, hi int) Report {
	m, h := w.m, &w.hist
	if w.src.F32 == nil {
		if w.index == nil {
			w.index = new([1 << 16]uint8)
		}
		r := w.entries.measure(h.values, h.counts, h.codes, w.index)
		w.index[1<<15] = w.index[0] // -0
		codes := w.src.F16
		if codes == nil {
			codes = w.src.BF16
		}
		packCodes(out, codes[lo:hi], m.Cols, m.Bits, w.index)
		return r
	}
	w.row = grow(w.row, m.Cols)
	w.entries.thresholds(&w.scaler.tree, 1, m.Bits)
	rb := m.RowBytes()
	for src := w.src.F32[lo:hi]; len(src) > 0; src, out = src[m.Cols:], out[rb:] {
		w.entries.assign(w.row, src[:m.Cols], &w.scaler.tree, m.Bits)
		PackRow(out[:rb], w.row, m.Bits)
	}
	return w.entries.measure(h.values, h.counts, nil, nil)
}

// findBad returns a *ValueError for the first of the weights lo to hi-1 that satisfies is.
func (w *worker) findBad(lo, hi int, reason string, is func(float64) bool) error {
	for i := lo; i < hi; i++ {
		var v float64
		switch {
		case w.src.F16 != nil:
			v = fp16.value(w.src.F16[i])
		case w.src.BF16 != nil:
			v = bf16.value(w.src.BF16[i])
		default:
			v = float64(w.src.F32[i])
		}
		if is(v) {
			return &ValueError{Row: i / w.m.Cols, Col: i % w.m.Cols, Value: v, Reason: reason}
		}
	}
	panic("palettize: the weight that cannot be palettized was not found")
}
