package gptq

import "afmq/internal/kernel"

// feedback is GPTQ. It quantizes the columns from the last position to the first; the errors
// of those already quantized shift the target of the next. With parts, each part chooses its
// setting with its codes. With H = L·Lᵀ the squared error
// is ‖E·L‖², and column j of E·L is L[j][j]·e[j] + Σ_{i>j} e[i]·L[i][j].
func (s *Refiner) feedback() {
	f, n := s.f, s.f.n
	clear(s.sums)
	for b := (n - 1) / solveBlock; b >= 0; b-- {
		b0 := b * solveBlock
		size := min(solveBlock, n-b0)
		block := f.blocks[b]
		for r := range s.rows {
			row := s.codes.Row(r)
			at := r*n + b0
			w, sum := s.weights[at:at+size], s.sums[at:at+size]
			e := s.part[r*size : (r+1)*size]
			if s.parts.size > 0 {
				s.feedbackParts(row.(PartRow), b0, w, sum, e)
			} else {
				inverse := f.diagInverse[b0 : b0+size]
				for j := size - 1; j >= 0; j-- {
					code, value := row.Nearest(b0+j, w[j]+sum[j]*inverse[j])
					row.Set(b0+j, code)
					e[j] = w[j] - value
					kernel.AddScaled(sum[:j], block[j*size:j*size+j], e[j])
				}
			}
			copy(s.errs[at:at+size], e)
		}
		s.mul.MulTPart(s.rows, s.part, size, f.upper, 0, b0, b0, size, s.sums, n, true)
	}
}

// descend is one pass of coordinate descent: it sets every code to the best one given all
// others. With grad = E·H, the best value of a weight is its present value plus
// grad/H[j][j]. With search, parts choose their setting, with codes, before that.
func (s *Refiner) descend(search bool) {
	f, n := s.f, s.f.n
	for b := (n - 1) / solveBlock; b >= 0; b-- {
		b0 := b * solveBlock
		size := min(solveBlock, n-b0)
		block := f.hBlocks[b]
		changed := false
		clear(s.part[:s.rows*size])
		for r := range s.rows {
			row := s.codes.Row(r)
			at := r*n + b0
			w, e, g := s.weights[at:at+size], s.errs[at:at+size], s.grad[at:at+size]
			d := s.part[r*size : (r+1)*size]
			if search && s.parts.size > 0 && s.descendParts(row.(PartRow), b0, w, e, g, d) {
				changed = true
			}
			inverse := f.hDiagInverse[b0 : b0+size]
			for j := size - 1; j >= 0; j-- {
				old := row.Value(b0 + j)
				code, value := row.Nearest(b0+j, old+g[j]*inverse[j])
				if value == old {
					continue
				}
				row.Set(b0+j, code)
				now := w[j] - value
				change := now - e[j]
				d[j] += change
				e[j], changed = now, true
				kernel.AddScaled(g, block[j*size:(j+1)*size], change)
			}
		}
		if !changed {
			continue
		}
		s.mul.MulTPart(s.rows, s.part, size, f.hessian, 0, b0, b0, size, s.grad, n, true)
		if after := b0 + size; after < n {
			s.mul.MulTPart(s.rows, s.part, size, f.hessian, after, n-after, b0, size, s.grad[after:], n, true)
		}
	}
}
