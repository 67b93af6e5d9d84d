package palettize

import (
	"math"

	"afmq/internal/kernel"
)

// assignGroup assigns every weight of the group to its nearest entry and computes number and
// sum of the weights by row and entry. It returns the squared error, weighted by importance,
// which it computes from these as a difference of sums in float64.
func (w *worker) assignGroup(lut, scales []uint16) (cost float64) {
	m, s := w.m, &w.scaler
	k := len(lut)
	w.entries.set(lut)
	s.chosen = grow(s.chosen, len(s.plain))
	s.count, s.sum = grow(s.count, len(scales)*k), grow(s.sum, len(scales)*k)
	for r, h := range scales {
		scale := f16Value(h)
		w.entries.thresholds(&s.tree, scale, m.Bits)
		row, chosen := s.plain[r*m.Cols:(r+1)*m.Cols], s.chosen[r*m.Cols:(r+1)*m.Cols]
		w.entries.assign(chosen, row, &s.tree, m.Bits)
		count, sum := s.count[r*k:(r+1)*k], s.sum[r*k:(r+1)*k]
		if s.importance == nil {
			sumByEntry(count, sum, row, chosen)
		} else {
			sumByEntryWeighted(count, sum, row, chosen, s.importance)
		}
		cost += s.norms[r]
		for j, e := range lut {
			v := f16Value(e) * scale
			cost += v * (v*count[j] - 2*sum[j])
		}
	}
	return cost
}

// thresholds sets the tree of the thresholds between entries for a row of the given scale.
// It is exact: the mean of two fp16 values times a third one has at most 53 bits, and a
// threshold can be rounded down to float32 because weights are float32.
func (p *palette) thresholds(tree *kernel.Thresholds, scale float64, bits int) {
	var t [1 << MaxBits]float32
	for j := range 1<<bits - 1 {
		if j < p.n-1 && scale > 0 {
			t[j] = floor32(p.above[j] * scale)
		} else {
			t[j] = float32(math.Inf(1))
		}
	}
	tree.Set(t[:1<<bits-1], bits)
}

// assign writes the index of the nearest entry of every weight of a row to index, ties to
// the lower one. tree holds the thresholds of the row.
func (p *palette) assign(index []uint8, row []float32, tree *kernel.Thresholds, bits int) {
	kernel.Intervals(index, row, tree, bits)
	if p.n < 1<<bits {
		for i, j := range index {
			index[i] = p.first[j]
		}
	}
}

// floor32 returns the largest float32 that does not exceed v.
func floor32(v float64) float32 {
	f := float32(v)
	if float64(f) > v {
		b := math.Float32bits(f)
		if f > 0 {
			b--
		} else {
			b++
		}
		return math.Float32frombits(b)
	}
	return f
}

// sumByEntry counts and sums the weights of a row by index. Several accumulators alternate,
// because consecutive additions to one would wait for each other.
func sumByEntry(count, sum []float64, row []float32, index []uint8) {
	var n [2][1 << MaxBits]uint32
	var t [4][1 << MaxBits]float64
	for len(row) >= 4 && len(index) >= 4 {
		v, i := row[:4:4], index[:4:4]
		n[0][i[0]]++
		n[1][i[1]]++
		n[0][i[2]]++
		n[1][i[3]]++
		t[0][i[0]] += float64(v[0])
		t[1][i[1]] += float64(v[1])
		t[2][i[2]] += float64(v[2])
		t[3][i[3]] += float64(v[3])
		row, index = row[4:], index[4:]
	}
	for i, v := range row {
		n[0][index[i]]++
		t[0][index[i]] += float64(v)
	}
	for j := range count {
		count[j] = float64(n[0][j] + n[1][j])
		sum[j] = (t[0][j] + t[1][j]) + (t[2][j] + t[3][j])
	}
}

// sumByEntryWeighted is sumByEntry weighted by the importance of the columns.
func sumByEntryWeighted(count, sum []float64, row []float32, index []uint8, importance []float32) {
	clear(count)
	clear(sum)
	for i, v := range row {
		x := float64(importance[i])
		count[index[i]] += x
		sum[index[i]] += x * float64(v)
	}
}
