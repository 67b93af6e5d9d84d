package palettize

import (
	"math"

	"afmq/internal/kernel"
)

// load reads weights and indices of the chunk and permutes their columns to the factor's
// order.
func (s *compensator) load() {
	n, order := s.f.n, s.f.order
	plain, codes := make([]float32, n), make([]uint8, n)
	rb := s.m.RowBytes()
	for r := range s.rows {
		at := (s.first + r) * n
		switch {
		case s.src.F16 != nil:
			for i, c := range s.src.F16[at : at+n] {
				plain[i] = float32(f16Value(c))
			}
		case s.src.BF16 != nil:
			for i, c := range s.src.BF16[at : at+n] {
				plain[i] = math.Float32frombits(uint32(c) << 16)
			}
		default:
			copy(plain, s.src.F32[at:at+n])
		}
		UnpackRow(codes, s.m.Indices[(s.first+r)*rb:(s.first+r+1)*rb], s.m.Bits)
		w, x := s.weights[r*n:(r+1)*n], s.index[r*n:(r+1)*n]
		for i, c := range order {
			w[i], x[i] = plain[c], codes[c]
		}
	}
}

// store writes the indices of the chunk to the matrix.
func (s *compensator) store() {
	n, rb := s.f.n, s.m.RowBytes()
	codes := make([]uint8, n)
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
		for i, c := range s.f.order {
			codes[c] = first[s.index[r*n+i]]
		}
		PackRow(s.m.Indices[(s.first+r)*rb:(s.first+r+1)*rb], codes, s.m.Bits)
	}
}

// table returns the look-up table of a row of the chunk, and the group's number.
func (s *compensator) table(r int) (lut []uint16, group int) {
	g := (s.first + r) / s.m.GroupRows
	return s.m.LUT[g<<s.m.Bits : (g+1)<<s.m.Bits], g
}

// rowLevels returns the dequantized values of a row's indices.
func (s *compensator) rowLevels(r int) *levels {
	lut, _ := s.table(r)
	scale := float32(1)
	if s.m.RowScale != nil {
		scale = float32(f16Value(s.m.RowScale[s.first+r]))
	}
	s.levels.set(lut, scale)
	return &s.levels
}

// measure computes errs from weights, indices and tables.
func (s *compensator) measure() {
	n := s.f.n
	for r := range s.rows {
		l := s.rowLevels(r)
		w, x, e := s.weights[r*n:(r+1)*n], s.index[r*n:(r+1)*n], s.errs[r*n:(r+1)*n]
		for i, c := range x {
			e[i] = w[i] - l.value[c]
		}
	}
}

// gradient computes grad from errs and returns tr(E·H·Eᵀ).
func (s *compensator) gradient() float64 {
	n := s.f.n
	s.mul.MulTPart(s.rows, s.errs, n, s.f.hessian, 0, n, 0, n, s.grad, n, false)
	return s.error()
}

// error returns tr(E·H·Eᵀ) from errs and grad.
func (s *compensator) error() float64 {
	n, sum := s.f.n, 0.0
	for r := range s.rows {
		sum += kernel.Dot(s.errs[r*n:(r+1)*n], s.grad[r*n:(r+1)*n])
	}
	return sum
}

// keep copies the state of the chunk to kept.
func (s *compensator) keep() {
	g0, g1 := s.groups()
	s.kept.index = append(s.kept.index[:0], s.index...)
	s.kept.errs = append(s.kept.errs[:0], s.errs...)
	s.kept.grad = append(s.kept.grad[:0], s.grad...)
	s.kept.lut = append(s.kept.lut[:0], s.m.LUT[g0<<s.m.Bits:g1<<s.m.Bits]...)
	if s.m.RowScale != nil {
		s.kept.scales = append(s.kept.scales[:0], s.m.RowScale[s.first:s.first+s.rows]...)
	}
}

// groups returns the first group of the chunk and the one after its last.
func (s *compensator) groups() (first, end int) {
	g := s.m.GroupRows
	return s.first / g, (s.first + s.rows + g - 1) / g
}

// better compares the state with the kept one group by group and leaves the better of the
// two in both. It returns the error of the result. errs and grad must match the indices.
func (s *compensator) better(best float64) float64 {
	n, k, total := s.f.n, 1<<s.m.Bits, 0.0
	g0, g1 := s.groups()
	for g := g0; g < g1; g++ {
		r0 := g*s.m.GroupRows - s.first
		r1 := min(r0+s.m.GroupRows, s.rows)
		now, before := 0.0, 0.0
		for r := r0; r < r1; r++ {
			now += kernel.Dot(s.errs[r*n:(r+1)*n], s.grad[r*n:(r+1)*n])
			before += kernel.Dot(s.kept.errs[r*n:(r+1)*n], s.kept.grad[r*n:(r+1)*n])
		}
		lut, rest := s.m.LUT[g*k:(g+1)*k], s.kept.lut[(g-g0)*k:(g-g0+1)*k]
		state := [][2][]float32{
			{s.errs[r0*n : r1*n], s.kept.errs[r0*n : r1*n]},
			{s.grad[r0*n : r1*n], s.kept.grad[r0*n : r1*n]},
		}
		from, to := 0, 1
		if now < before {
			copy(rest, lut)
			copy(s.kept.index[r0*n:r1*n], s.index[r0*n:r1*n])
			if s.m.RowScale != nil {
				copy(s.kept.scales[r0:r1], s.m.RowScale[s.first+r0:s.first+r1])
			}
			total += now
		} else {
			copy(lut, rest)
			copy(s.index[r0*n:r1*n], s.kept.index[r0*n:r1*n])
			if s.m.RowScale != nil {
				copy(s.m.RowScale[s.first+r0:s.first+r1], s.kept.scales[r0:r1])
			}
			from, to = 1, 0
			total += before
		}
		for _, p := range state {
			copy(p[to], p[from])
		}
	}
	return total
}

// report sums the plain squared error of the chunk.
func (s *compensator) report() (r Report) {
	n := s.f.n
	for row := range s.rows {
		e, w := s.errs[row*n:(row+1)*n], s.weights[row*n:(row+1)*n]
		r.SquaredError += kernel.Dot(e, e)
		r.SquaredNorm += kernel.Dot(w, w)
	}
	return r
}
