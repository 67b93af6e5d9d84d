package palettize

import (
	"fmt"
	"math"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// Compensation says how hard to work on the error that is left.
type Compensation struct {
	// Rounds is how many times, after the first pass, the tables are fitted to the
	// indices and the indices chosen anew; 0 for DefaultRounds, negative for none.
	Rounds int
}

// DefaultRounds is where more rounds win less than a hundredth of the error.
const DefaultRounds = 4

// CompensationReport adds the error at the module's output to a [Report]. Both are
// sums over the calibration tokens, damping included.
type CompensationReport struct {
	Report
	OutputError float64 // tr(E·H·Eᵀ), E = W - Ŵ
	PlainError  float64 // the same of the tables and indices before compensation
}

// Compensate palettizes src, a matrix [rows, f's columns], so that the squared error of
// its output over the calibration tokens is small, where [Palettize] has that of the
// weights in mind. Each group starts from the optimal table for its weights with the
// importance of [HessianFactor]. Then columns are quantized one after another, and each
// column's error is made up for in those that follow (GPTQ, Frantar et al. 2022; in the
// form of LDLQ, Chee et al., "QuIP", 2023: feedback by a Cholesky factor, which needs no
// inverse). Last, in rounds, table entries and row scales are fitted to the indices in
// the norm of the Hessian by conjugate gradients, and every index is chosen anew given
// all others (coordinate descent). A round that does not lower the error is not taken.
//
// Options are those of Palettize, without Importance. The result does not depend on the
// number of threads.
func Compensate(pool *compute.Pool, src Source, rows, cols int, opt Options, f *HessianFactor, c Compensation) (*Matrix, CompensationReport, error) {
	if cols != f.n {
		return nil, CompensationReport{}, fmt.Errorf("%d columns with a Hessian of %d", cols, f.n)
	}
	if c.Rounds == 0 {
		c.Rounds = DefaultRounds
	}
	opt.Importance = f.importance()
	m, _, err := Palettize(pool, src, rows, cols, opt)
	if err != nil {
		return nil, CompensationReport{}, err
	}
	per := chunkRows(rows, m.GroupRows)
	chunks := (rows + per - 1) / per
	reports := make([]CompensationReport, chunks)
	solvers := make([]*compensator, pool.Threads())
	pool.Run(chunks, func(id, i int) {
		if solvers[id] == nil {
			solvers[id] = &compensator{m: m, f: f, src: src, rounds: max(c.Rounds, 0)}
		}
		reports[i] = solvers[id].chunk(i*per, min(per, rows-i*per))
	})
	var sum CompensationReport
	for _, r := range reports {
		sum.SquaredError += r.SquaredError
		sum.SquaredNorm += r.SquaredNorm
		sum.OutputError += r.OutputError
		sum.PlainError += r.PlainError
	}
	return m, sum, nil
}

// chunkRows returns how many rows make a chunk, whole groups: enough for the products to
// be worth their packing, few enough for the chunks of a small matrix to keep some threads
// busy. 112 is 8 strips of the widest kernel. It may not depend on the threads, as the
// rounds of a chunk end together.
func chunkRows(rows, group int) int {
	want := 64
	if rows >= 1024 {
		want = 112
	}
	return max(1, want/group) * group
}

// compensator works on chunks of rows with buffers of its own. Columns stand in the
// factor's order. Slices are [rows, n] unless it says otherwise.
type compensator struct {
	m      *Matrix
	f      *HessianFactor
	src    Source
	rounds int
	mul    kernel.Scratch

	first, rows int
	weights     []float32
	index       []uint8
	errs        []float32 // W - Ŵ
	grad        []float32 // errs·H: half the gradient of the error
	sums        []float32 // feedback of the columns that are quantized
	part        []float32 // [rows, solveBlock]: errors or changes of a block
	levels      levels
	refit       refit
	kept        struct {
		index       []uint8
		lut, scales []uint16
		errs, grad  []float32
	}
}

// chunk works on rows first to first+rows-1, which are whole groups, and writes them to
// the matrix.
func (s *compensator) chunk(first, rows int) (r CompensationReport) {
	s.first, s.rows = first, rows
	n := s.f.n
	size := rows * n
	for _, p := range []*[]float32{&s.weights, &s.errs, &s.grad, &s.sums} {
		*p = grow(*p, size)
	}
	s.index, s.part = grow(s.index, size), grow(s.part, rows*solveBlock)
	s.load()
	s.measure()
	r.PlainError = s.gradient()
	s.keep()
	s.feedback()
	s.gradient()
	best := s.better(r.PlainError)
	for range s.rounds {
		s.fit()
		s.gradient()
		s.descend()
		before := best
		if best = s.better(best); !(best < before*(1-1e-4)) {
			break
		}
	}
	r.OutputError = best
	s.store()
	r.Report = s.report()
	return r
}

// load reads weights and indices of the chunk into the factor's order.
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
		// Of equal entries, which a fit may leave, the first is named.
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

// rowLevels prepares the values that a row's indices stand for.
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

// keep saves the state of the chunk.
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

// better compares the state with the one that was kept, whose error is best, group by
// group, keeps of each group the better one, and returns the error of what is kept. It
// expects errs and grad to be right.
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

// feedback quantizes the columns from the last position to the first. The error of the
// columns already quantized moves the target of each: with H = L·Lᵀ the error is
// ‖E·L‖², and its part in column j is L[j][j]·e[j] + Σ_{i>j} e[i]·L[i][j].
func (s *compensator) feedback() {
	f, n := s.f, s.f.n
	clear(s.sums)
	for b := (n - 1) / solveBlock; b >= 0; b-- {
		b0 := b * solveBlock
		size := min(solveBlock, n-b0)
		block := f.blocks[b]
		for r := range s.rows {
			l := s.rowLevels(r)
			at := r*n + b0
			w, x, sum := s.weights[at:at+size], s.index[at:at+size], s.sums[at:at+size]
			e := s.part[r*size : (r+1)*size]
			inverse := f.diagInverse[b0 : b0+size]
			for j := size - 1; j >= 0; j-- {
				q := l.nearest(w[j] + sum[j]*inverse[j])
				x[j] = q
				e[j] = w[j] - l.value[q]
				kernel.AddScaled(sum[:j], block[j*size:j*size+j], e[j])
			}
			copy(s.errs[at:at+size], e)
		}
		s.mul.MulTPart(s.rows, s.part, size, f.upper, 0, b0, b0, size, s.sums, n, true)
	}
}

// descend chooses every index anew, each to make the error least while all others stay:
// with grad = E·H the best value of a weight is what it is now plus grad/H[j][j].
func (s *compensator) descend() {
	f, n := s.f, s.f.n
	for b := (n - 1) / solveBlock; b >= 0; b-- {
		b0 := b * solveBlock
		size := min(solveBlock, n-b0)
		block := f.hBlocks[b]
		changed := false
		clear(s.part[:s.rows*size])
		for r := range s.rows {
			l := s.rowLevels(r)
			at := r*n + b0
			w, x, e, g := s.weights[at:at+size], s.index[at:at+size], s.errs[at:at+size], s.grad[at:at+size]
			d := s.part[r*size : (r+1)*size]
			inverse := f.hDiagInverse[b0 : b0+size]
			for j := size - 1; j >= 0; j-- {
				old := l.value[x[j]]
				q := l.nearest(old + g[j]*inverse[j])
				if l.value[q] == old {
					continue
				}
				x[j] = q
				now := w[j] - l.value[q]
				d[j], e[j], changed = now-e[j], now, true
				kernel.AddScaled(g, block[j*size:(j+1)*size], d[j])
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
