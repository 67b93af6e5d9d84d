package palettize

import "slices"

// refitSteps is the number of conjugate gradient steps of a fit. It solves the system of a
// table of 4 entries exactly, and that of a larger one approximately.
const refitSteps = 4

// refit holds the vectors of the conjugate gradients. A vector has, for every group of a
// chunk, the entries of its table and then the scales of its rows.
type refit struct {
	size       int // entries and rows of one group
	residual   []float64
	direction  []float64
	scaling    []float64 // diagonal preconditioner
	product    []float64
	change     []float64 // the accumulated step
	rho        []float64 // per group
	move, hess []float32 // [rows, n] the change of Ŵ along the direction, and its product with H
}

// fit fits the table entries, and the row scales if there are any, to the present indices.
// It is one Gauss-Newton step in both: the normal equations of each group are solved by
// preconditioned conjugate gradients, and all groups share the products with the Hessian.
// grad must be up to date. fit rounds the result to fp16, sorts the tables and updates errs.
func (s *compensator) fit() {
	g0, g1 := s.groups()
	k := 1 << s.m.Bits
	t := &s.refit
	t.size = k
	if s.m.RowScale != nil {
		t.size += s.m.GroupRows
	}
	groups, n := g1-g0, s.f.n
	for _, v := range []*[]float64{&t.residual, &t.direction, &t.scaling, &t.product, &t.change} {
		*v = grow(*v, groups*t.size)
	}
	t.rho = grow(t.rho, groups)
	t.move, t.hess = grow(t.move, s.rows*n), grow(t.hess, s.rows*n)
	clear(t.change)
	s.gather(t.residual, s.grad)
	s.scaling(t.scaling)
	for i := range t.direction {
		t.direction[i] = t.residual[i] * t.scaling[i]
	}
	for g := range groups {
		t.rho[g] = t.dot(t.residual, t.direction, g)
	}
	for step := range refitSteps {
		s.spread(t.move, t.direction)
		s.mul.MulTPart(s.rows, t.move, n, s.f.hessian, 0, n, 0, n, t.hess, n, false)
		s.gather(t.product, t.hess)
		for g := range groups {
			curvature := t.dot(t.direction, t.product, g)
			if !(curvature > 0) || !(t.rho[g] > 0) {
				t.rho[g] = 0
				continue
			}
			alpha := t.rho[g] / curvature
			lo, hi := g*t.size, (g+1)*t.size
			for i := lo; i < hi; i++ {
				t.change[i] += alpha * t.direction[i]
				t.residual[i] -= alpha * t.product[i]
			}
			if step == refitSteps-1 {
				continue
			}
			before, after := t.rho[g], 0.0
			for i := lo; i < hi; i++ {
				after += t.residual[i] * t.residual[i] * t.scaling[i]
			}
			for i := lo; i < hi; i++ {
				t.direction[i] = t.residual[i]*t.scaling[i] + after/before*t.direction[i]
			}
			t.rho[g] = after
		}
	}
	for g := range groups {
		s.apply(g0+g, t.change[g*t.size:(g+1)*t.size])
	}
	s.measure()
}

// dot returns the scalar product of the parts of two vectors that belong to group g.
func (t *refit) dot(a, b []float64, g int) float64 {
	sum := 0.0
	for i := g * t.size; i < (g+1)*t.size; i++ {
		sum += a[i] * b[i]
	}
	return sum
}

// eachRow calls f for every row of the chunk with the row's elements of a vector: the
// entries of its group, and a pointer to its scale, nil without row scales.
func (s *compensator) eachRow(v []float64, f func(r int, entries []float64, rowScale *float64)) {
	g0, _ := s.groups()
	k := 1 << s.m.Bits
	for r := range s.rows {
		g := (s.first + r) / s.m.GroupRows
		part := v[(g-g0)*s.refit.size : (g-g0+1)*s.refit.size]
		var rowScale *float64
		if s.m.RowScale != nil {
			rowScale = &part[k+(s.first+r)%s.m.GroupRows]
		}
		f(r, part[:k], rowScale)
	}
}

// gather writes the derivatives of <x, Ŵ> with respect to entries and scales to dst.
func (s *compensator) gather(dst []float64, x []float32) {
	n := s.f.n
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
		lut, _ := s.table(r)
		scale := f16Value(s.m.RowScale[s.first+r])
		for c, v := range bins {
			entries[c] += scale * v
			*rowScale += f16Value(lut[c]) * v
		}
	})
}

// spread writes the change of Ŵ along a direction of entries and scales to dst.
func (s *compensator) spread(dst []float32, direction []float64) {
	n := s.f.n
	s.eachRow(direction, func(r int, entries []float64, rowScale *float64) {
		var move [1 << MaxBits]float32
		lut, _ := s.table(r)
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

// scaling writes the diagonal preconditioner to dst: the inverse diagonal of the normal
// equations for a diagonal Hessian, 0 for an unused parameter.
func (s *compensator) scaling(dst []float64) {
	n := s.f.n
	clear(dst)
	s.eachRow(dst, func(r int, entries []float64, rowScale *float64) {
		lut, _ := s.table(r)
		scale := 1.0
		if rowScale != nil {
			scale = f16Value(s.m.RowScale[s.first+r])
		}
		for i, c := range s.index[r*n : (r+1)*n] {
			h := s.f.hDiag[i]
			entries[c] += scale * scale * h
			if rowScale != nil {
				e := f16Value(lut[c])
				*rowScale += e * e * h
			}
		}
	})
	for i, v := range dst {
		if v > 0 {
			dst[i] = 1 / v
		}
	}
}

// apply adds a change to the table and the row scales of group g, rounds them to fp16, and
// sorts the table, renumbering the indices. A value outside the range of fp16 is not changed.
func (s *compensator) apply(g int, change []float64) {
	k, n := 1<<s.m.Bits, s.f.n
	lut := s.m.LUT[g*k : (g+1)*k]
	for i := range lut {
		if h, ok := roundF16(f16Value(lut[i]) + change[i]); ok {
			lut[i] = h
		}
	}
	r0 := g*s.m.GroupRows - s.first
	r1 := min(r0+s.m.GroupRows, s.rows)
	if s.m.RowScale != nil {
		for r := r0; r < r1; r++ {
			at := &s.m.RowScale[s.first+r]
			if h, ok := roundF16(f16Value(*at) + change[k+(s.first+r)%s.m.GroupRows]); ok && f16Value(h) > 0 {
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
