package grid

import (
	"math"
	"slices"

	"afmq/pkg/compute"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// trainedPalette is a palette in training. Its tables need not be sorted.
type trainedPalette struct {
	m     *palettize.Matrix
	index []uint8 // [rows, cols]
	// The values of tables and row scales as stored.
	table, scale []float32 // scale is nil without row scales
}

// Train returns a stored matrix in training: its tables, row scales and indices. A scale stays above
// 0, or is 0; a value beyond the range of fp16 becomes its largest.
func (g Palette) Train(data Data, rows, cols int) (Trainable, error) {
	m, err := g.Matrix(data, rows, cols)
	if err != nil {
		return nil, err
	}
	own := *m
	own.Indices, own.LUT, own.RowScale = slices.Clone(m.Indices), slices.Clone(m.LUT), slices.Clone(m.RowScale)
	t := &trainedPalette{m: &own, index: make([]uint8, rows*cols)}
	rb := own.RowBytes()
	for r := range rows {
		palettize.UnpackRow(t.index[r*cols:(r+1)*cols], own.Indices[r*rb:(r+1)*rb], own.Bits)
	}
	t.table = widen(safetensors.F16, putHalves(own.LUT), 0, len(own.LUT))
	if own.RowScale != nil {
		t.scale = widen(safetensors.F16, putHalves(own.RowScale), 0, rows)
	}
	return t, nil
}

func (t *trainedPalette) Lengths() (tables, scales, codes int) {
	return len(t.table), len(t.scale), len(t.index)
}

func (t *trainedPalette) Read(v Values) {
	if len(v.Tables) > 0 {
		copy(v.Tables, t.table)
	}
	if len(v.Scales) > 0 {
		copy(v.Scales, t.scale)
	}
	if len(v.Codes) > 0 {
		for i, c := range t.index {
			v.Codes[i] = t.table[t.group(i/t.m.Cols)<<t.m.Bits|int(c)]
		}
	}
}

// group returns the group of a row.
func (t *trainedPalette) group(row int) int { return row / t.m.GroupRows }

func (t *trainedPalette) Units(v Values) {
	sum, spread := 0.0, 0.0
	k := 1 << t.m.Bits
	for g := range t.m.Groups() {
		entries := t.table[g*k : (g+1)*k]
		for _, x := range entries {
			sum += float64(x) * float64(x)
		}
		spread += float64(slices.Max(entries) - slices.Min(entries))
	}
	fill(v.Tables, math.Sqrt(sum/float64(len(t.table))))
	fill(v.Codes, spread/float64(t.m.Groups()*(k-1)))
	for i := range v.Scales {
		if v.Scales[i] = t.scale[i]; t.scale[i] == 0 {
			v.Scales[i] = 1 // it stays 0
		}
	}
}

// fill sets all elements to a unit; to 1 if it is 0.
func fill(v []float32, unit float64) {
	if unit == 0 {
		unit = 1
	}
	for i := range v {
		v[i] = float32(unit)
	}
}

func (t *trainedPalette) AddGradient(pool *compute.Pool, g Values, weights []float32) {
	k, cols := 1<<t.m.Bits, t.m.Cols
	pool.Run(t.m.Groups(), func(_, group int) {
		var sums, bins [1 << palettize.MaxBits]float64
		for r := group * t.m.GroupRows; r < min((group+1)*t.m.GroupRows, t.m.Rows); r++ {
			row, index := weights[r*cols:(r+1)*cols], t.index[r*cols:(r+1)*cols]
			scale := float32(1)
			if t.scale != nil {
				scale = t.scale[r]
			}
			if len(g.Codes) > 0 {
				codes := g.Codes[r*cols : (r+1)*cols]
				for i, d := range row {
					codes[i] += float32(scale * d)
				}
			}
			if len(g.Tables) == 0 && len(g.Scales) == 0 {
				continue
			}
			clear(bins[:k])
			for i, d := range row {
				bins[index[i]] += float64(d)
			}
			along := 0.0
			for c, b := range bins[:k] {
				along += float64(b * float64(t.table[group*k+c]))
				sums[c] += float64(b * float64(scale))
			}
			if len(g.Scales) > 0 {
				g.Scales[r] += float32(along)
			}
		}
		for c := range g.Tables[min(group*k, len(g.Tables)):min((group+1)*k, len(g.Tables))] {
			g.Tables[group*k+c] += float32(sums[c])
		}
	})
}

func (t *trainedPalette) Store(pool *compute.Pool, v Values) {
	k, cols, rb := 1<<t.m.Bits, t.m.Cols, t.m.RowBytes()
	for i, x := range v.Tables {
		if bits, stored := half(safetensors.F16, float64(x)); finite(x) {
			t.m.LUT[i], t.table[i] = bits, stored
		}
	}
	for i, x := range v.Scales {
		if finite(x) && t.scale[i] > 0 {
			t.m.RowScale[i], t.scale[i] = half(safetensors.F16, max(float64(x), smallestHalf))
		}
	}
	if len(v.Codes) == 0 {
		return
	}
	pool.Run(t.m.Groups(), func(_, group int) {
		n := newNearest(t.table[group*k : (group+1)*k])
		for r := group * t.m.GroupRows; r < min((group+1)*t.m.GroupRows, t.m.Rows); r++ {
			index := t.index[r*cols : (r+1)*cols]
			for i, x := range v.Codes[r*cols : (r+1)*cols] {
				if finite(x) {
					index[i] = n.find(x)
				}
			}
			palettize.PackRow(t.m.Indices[r*rb:(r+1)*rb], index, t.m.Bits)
		}
	})
}

// nearest finds the entry of a table next to a value.
type nearest struct {
	order []uint8   // indices of the entries, in ascending order of their values; of equal ones the first
	above []float32 // midpoints between neighbors
}

func newNearest(table []float32) *nearest {
	n := &nearest{}
	for i := range table {
		n.order = append(n.order, uint8(i))
	}
	slices.SortStableFunc(n.order, func(a, b uint8) int {
		switch x, y := table[a], table[b]; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	n.order = slices.CompactFunc(n.order, func(a, b uint8) bool { return table[a] == table[b] })
	for i := range n.order[1:] {
		n.above = append(n.above, (table[n.order[i]]+table[n.order[i+1]])/2)
	}
	return n
}

func (n *nearest) find(x float32) uint8 {
	if len(n.above) <= 16 {
		at := 0
		for _, m := range n.above {
			if x > m {
				at++
			}
		}
		return n.order[at]
	}
	at, _ := slices.BinarySearch(n.above, x)
	return n.order[at]
}

// Data sorts the tables and renumbers the indices.
func (t *trainedPalette) Data() Data {
	out := *t.m
	out.Indices, out.LUT = slices.Clone(t.m.Indices), slices.Clone(t.m.LUT)
	k, cols, rb := 1<<t.m.Bits, t.m.Cols, t.m.RowBytes()
	row := make([]uint8, cols)
	for g := range t.m.Groups() {
		entries := t.table[g*k : (g+1)*k]
		if slices.IsSorted(entries) {
			continue
		}
		order := make([]int, k)
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int {
			switch {
			case entries[a] < entries[b]:
				return -1
			case entries[a] > entries[b]:
				return 1
			}
			return 0
		})
		var to [1 << palettize.MaxBits]uint8
		for i, o := range order {
			out.LUT[g*k+i], to[o] = t.m.LUT[g*k+o], uint8(i)
		}
		for r := g * t.m.GroupRows; r < min((g+1)*t.m.GroupRows, t.m.Rows); r++ {
			for i, c := range t.index[r*cols : (r+1)*cols] {
				row[i] = to[c]
			}
			palettize.PackRow(out.Indices[r*rb:(r+1)*rb], row, t.m.Bits)
		}
	}
	return paletteData(&out)
}

func finite(x float32) bool { return !math.IsNaN(float64(x)) && !math.IsInf(float64(x), 0) }
