package palettize

import (
	"slices"

	"afmq/pkg/gptq"
)

// codes are the indices, tables and row scales of a chunk of rows, whole groups, for package
// gptq. A vector of parameters has, for every group, the entries of its table and then the
// scales of its rows. Slices are [rows, n] unless stated otherwise; columns are in the order of
// the Hessian factor.
type codes struct {
	m     *Matrix
	order []int32

	first, rows int
	weights     []float32
	index       []uint8
	levels      levels
	row         row
	kept        struct {
		index       []uint8
		lut, scales []uint16
	}
}

// load reads weights and indices of a chunk.
func (s *codes) load(src Source, first, rows int) {
	s.first, s.rows = first, rows
	n := len(s.order)
	s.weights, s.index = grow(s.weights, rows*n), grow(s.index, rows*n)
	plain, unpacked := make([]float32, n), make([]uint8, n)
	rb := s.m.RowBytes()
	for r := range rows {
		at := (first + r) * n
		src.Float32(plain, at)
		UnpackRow(unpacked, s.m.Indices[(first+r)*rb:(first+r+1)*rb], s.m.Bits)
		w, x := s.weights[r*n:(r+1)*n], s.index[r*n:(r+1)*n]
		for i, c := range s.order {
			w[i], x[i] = plain[c], unpacked[c]
		}
	}
}

// store writes the indices of the chunk to the matrix.
func (s *codes) store() {
	n, rb := len(s.order), s.m.RowBytes()
	unpacked := make([]uint8, n)
	for r := range s.rows {
		// Fitting may leave equal entries; an index refers to the first of them.
		l := s.rowLevels(r)
		var first [1 << MaxBits]uint8
		for i, v := range l.value {
			first[i] = uint8(i)
			if i > 0 && v == l.value[i-1] && i < 1<<s.m.Bits {
				first[i] = first[i-1]
			}
		}
		for i, c := range s.order {
			unpacked[c] = first[s.index[r*n+i]]
		}
		PackRow(s.m.Indices[(s.first+r)*rb:(s.first+r+1)*rb], unpacked, s.m.Bits)
	}
}

// table returns the look-up table of a row of the chunk.
func (s *codes) table(r int) []uint16 {
	g := (s.first + r) / s.m.GroupRows
	return s.m.LUT[g<<s.m.Bits : (g+1)<<s.m.Bits]
}

// rowLevels returns the dequantized values of a row's indices.
func (s *codes) rowLevels(r int) *levels {
	scale := float32(1)
	if s.m.RowScale != nil {
		scale = float32(f16Value(s.m.RowScale[s.first+r]))
	}
	s.levels.set(s.table(r), scale)
	return &s.levels
}

// row is the row that Row returned last.
type row struct {
	levels *levels
	index  []uint8
}

func (s *codes) Row(r int) gptq.Row {
	n := len(s.order)
	s.row = row{s.rowLevels(r), s.index[r*n : (r+1)*n]}
	return &s.row
}

func (r *row) Value(j int) float32 { return r.levels.value[r.index[j]] }

func (r *row) Nearest(_ int, target float32) (uint8, float32) {
	q := r.levels.nearest(target)
	return q, r.levels.value[q]
}

func (r *row) Set(j int, code uint8) { r.index[j] = code }

func (s *codes) Errors(dst, weights []float32) {
	n := len(s.order)
	for r := range s.rows {
		l := s.rowLevels(r)
		w, x, e := weights[r*n:(r+1)*n], s.index[r*n:(r+1)*n], dst[r*n:(r+1)*n]
		for i, c := range x {
			e[i] = w[i] - l.value[c]
		}
	}
}

func (s *codes) Groups() int { return (s.rows + s.m.GroupRows - 1) / s.m.GroupRows }

func (s *codes) GroupRows(g int) (first, end int) {
	first = g * s.m.GroupRows
	return first, min(first+s.m.GroupRows, s.rows)
}

func (s *codes) Parameters() int {
	if s.m.RowScale == nil {
		return 1 << s.m.Bits
	}
	return 1<<s.m.Bits + s.m.GroupRows
}

// eachRow calls f for every row of the chunk with the row's elements of a vector of parameters:
// the entries of its group, and a pointer to its scale, nil without row scales.
func (s *codes) eachRow(v []float64, f func(r int, entries []float64, rowScale *float64)) {
	k, size := 1<<s.m.Bits, s.Parameters()
	for r := range s.rows {
		g := r / s.m.GroupRows
		part := v[g*size : (g+1)*size]
		var rowScale *float64
		if s.m.RowScale != nil {
			rowScale = &part[k+r%s.m.GroupRows]
		}
		f(r, part[:k], rowScale)
	}
}

func (s *codes) Gather(dst []float64, x []float32) {
	n := len(s.order)
	clear(dst)
	var sums [1 << MaxBits]float64
	s.eachRow(dst, func(r int, entries []float64, rowScale *float64) {
		bins := sums[:len(entries)]
		clear(bins)
		row := x[r*n : (r+1)*n]
		for i, c := range s.index[r*n : (r+1)*n] {
			bins[c] += float64(row[i])
		}
		if rowScale == nil {
			for c, v := range bins {
				entries[c] += v
			}
			return
		}
		lut := s.table(r)
		scale := f16Value(s.m.RowScale[s.first+r])
		for c, v := range bins {
			entries[c] += scale * v
			*rowScale += f16Value(lut[c]) * v
		}
	})
}

func (s *codes) Spread(dst []float32, direction []float64) {
	n := len(s.order)
	s.eachRow(direction, func(r int, entries []float64, rowScale *float64) {
		var move [1 << MaxBits]float32
		lut := s.table(r)
		for c, v := range entries {
			if rowScale != nil {
				v = v*f16Value(s.m.RowScale[s.first+r]) + *rowScale*f16Value(lut[c])
			}
			move[c] = float32(v)
		}
		row := dst[r*n : (r+1)*n]
		for i, c := range s.index[r*n : (r+1)*n] {
			row[i] = move[c]
		}
	})
}

func (s *codes) Curvature(dst, diag []float64, rows []float32) {
	n := len(s.order)
	clear(dst)
	s.eachRow(dst, func(r int, entries []float64, rowScale *float64) {
		lut := s.table(r)
		scale := 1.0
		if rowScale != nil {
			scale = f16Value(s.m.RowScale[s.first+r])
		}
		weight := 1.0
		if rows != nil {
			weight = float64(rows[r])
		}
		for i, c := range s.index[r*n : (r+1)*n] {
			h := float64(weight * diag[i])
			entries[c] += scale * scale * h
			if rowScale != nil {
				e := f16Value(lut[c])
				*rowScale += e * e * h
			}
		}
	})
}

// Move also sorts the table and renumbers the indices. A value outside the range of fp16 is not
// changed.
func (s *codes) Move(g int, change []float64) {
	k, n := 1<<s.m.Bits, len(s.order)
	r0, r1 := s.GroupRows(g)
	lut := s.table(r0)
	for i := range lut {
		if h, ok := roundF16(f16Value(lut[i]) + change[i]); ok {
			lut[i] = h
		}
	}
	if s.m.RowScale != nil {
		for r := r0; r < r1; r++ {
			at := &s.m.RowScale[s.first+r]
			if h, ok := roundF16(f16Value(*at) + change[k+r-r0]); ok && f16Value(h) > 0 {
				*at = h
			}
		}
	}
	if slices.IsSortedFunc(lut, func(a, b uint16) int { return compareF16(a, b) }) {
		return
	}
	order := make([]int, k)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareF16(lut[a], lut[b]) })
	var to [1 << MaxBits]uint8
	sorted := make([]uint16, k)
	for i, o := range order {
		sorted[i], to[o] = lut[o], uint8(i)
	}
	copy(lut, sorted)
	for i, c := range s.index[r0*n : r1*n] {
		s.index[r0*n+i] = to[c]
	}
}

// copies returns what Keep and Restore copy of a group: pairs of the state and its copy.
func (s *codes) copies(g int) (index, keptIndex []uint8, words [][2][]uint16) {
	n, k := len(s.order), 1<<s.m.Bits
	r0, r1 := s.GroupRows(g)
	s.kept.index = grow(s.kept.index, s.rows*n)
	s.kept.lut = grow(s.kept.lut, s.Groups()*k)
	words = [][2][]uint16{{s.table(r0), s.kept.lut[g*k : (g+1)*k]}}
	if s.m.RowScale != nil {
		s.kept.scales = grow(s.kept.scales, s.rows)
		words = append(words, [2][]uint16{s.m.RowScale[s.first+r0 : s.first+r1], s.kept.scales[r0:r1]})
	}
	return s.index[r0*n : r1*n], s.kept.index[r0*n : r1*n], words
}

func (s *codes) Keep(g int) {
	index, kept, words := s.copies(g)
	copy(kept, index)
	for _, w := range words {
		copy(w[1], w[0])
	}
}

func (s *codes) Restore(g int) {
	index, kept, words := s.copies(g)
	copy(index, kept)
	for _, w := range words {
		copy(w[0], w[1])
	}
}
