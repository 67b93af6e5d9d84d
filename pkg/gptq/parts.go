package gptq

import (
	"math"

	"afmq/internal/kernel"
)

// PartCodes are Codes whose columns are divided into parts of equal size, each of which has
// parameters of its own that are chosen from a few settings, such as integer scales. The columns
// of a part are at consecutive positions of the [Factor], as NewFactor arranges with a run that is
// a multiple of the part. Its rows are PartRows.
type PartCodes interface {
	Codes
	// PartColumns returns the size of a part, which divides the number of columns and 128.
	PartColumns() int
}

// PartRow is a Row of PartCodes.
type PartRow interface {
	Row
	// Settings returns how many settings part p may take, and prepares Try. Setting 0 is the
	// present one. Part p begins at position p times the size of a part. wide asks for settings
	// further from the present one.
	Settings(p int, wide bool) int
	// Try gives part p a setting that Settings counted. Codes keep their numbers.
	Try(p, setting int)
}

// partSearch chooses the setting of a part together with its codes. With a lower triangular L,
// moving the weights of the part by c costs ‖z - c·L‖² instead of ‖z‖². The codes for a setting
// are found one after another from the last column, as in GPTQ.
type partSearch struct {
	size    int         // columns of a part; 0 without parts
	lower   [][]float32 // [parts][size, size] Cholesky factor of the part's own block of H
	inverse [][]float32 // [parts][size] inverse of its diagonal
	x, z    []float32   // [size] the weights before, and z
	sum     []float32   // [size] z - c·L for the columns chosen so far
	best    choice
	next    choice // the setting that is tried
}

// choice holds codes of a part, and the change c of its weights, each [size].
type choice struct {
	codes  []uint8
	change []float32
}

// prepare sets the size of a part and factors the Hessian of each.
func (t *partSearch) prepare(f *Factor, size int) {
	if t.size == size {
		return
	}
	t.size = size
	t.x, t.z, t.sum = make([]float32, size), make([]float32, size), make([]float32, size)
	for _, c := range []*choice{&t.best, &t.next} {
		c.codes, c.change = make([]uint8, size), make([]float32, size)
	}
	count := f.n / size
	t.lower, t.inverse = make([][]float32, count), make([][]float32, count)
	for p := range count {
		b, at := p*size/solveBlock, p*size%solveBlock
		width := min(solveBlock, f.n-b*solveBlock)
		t.lower[p], t.inverse[p] = cholesky(f.hBlocks[b][at*width+at:], width, size)
	}
}

// cholesky factors a matrix [n, n], positive definite, whose rows are stride apart. It also
// returns the inverse of the factor's diagonal.
func cholesky(a []float32, stride, n int) (lower, inverse []float32) {
	l := make([]float64, n*n)
	lower, inverse = make([]float32, n*n), make([]float32, n)
	for i := range n {
		for j := range i + 1 {
			v := float64(a[i*stride+j])
			for k := range j {
				v -= float64(l[i*n+k] * l[j*n+k])
			}
			if i == j {
				l[i*n+i] = math.Sqrt(v)
				inverse[i] = float32(1 / l[i*n+i])
			} else {
				l[i*n+j] = v / l[j*n+j]
			}
			lower[i*n+j] = float32(l[i*n+j])
		}
	}
	return lower, inverse
}

// search gives part p the setting and the codes of least cost, if it is below limit. t.x and t.z
// are set. L has rows that are stride apart. It reports whether it found one; t.best then has the
// codes.
func (t *partSearch) search(row PartRow, p int, l []float32, stride int, inverse []float32, limit float64, wide bool) bool {
	chosen := -1
	for s := range row.Settings(p, wide) {
		row.Try(p, s)
		if cost := t.quantize(row, p, l, stride, inverse, limit); cost < limit {
			limit, chosen = cost, s
			t.best, t.next = t.next, t.best
		}
	}
	row.Try(p, max(chosen, 0))
	if chosen < 0 {
		return false
	}
	for j, c := range t.best.codes {
		row.Set(p*t.size+j, c)
	}
	return true
}

// quantize chooses codes for the present setting of part p, into t.next, and returns their cost.
// It stops when the cost reaches limit.
func (t *partSearch) quantize(row PartRow, p int, l []float32, stride int, inverse []float32, limit float64) float64 {
	copy(t.sum, t.z)
	cost := 0.0
	for j := t.size - 1; j >= 0; j-- {
		code, value := row.Nearest(p*t.size+j, t.x[j]+t.sum[j]*inverse[j])
		change := value - t.x[j]
		t.next.codes[j], t.next.change[j] = code, change
		rest := float64(t.sum[j]) - float64(float64(change)*float64(l[j*stride+j]))
		if cost += float64(rest * rest); cost >= limit {
			break
		}
		// Whole vectors: the columns from j on are not read again.
		end := min((j+15)&^15, t.size)
		kernel.AddScaled(t.sum[:end], l[j*stride:j*stride+end], -change)
	}
	return cost
}

// feedbackParts is feedback for a row of a block of columns, the first of which is at position b0.
// Each part takes the setting with which GPTQ quantizes it best. w, sum and e [size] are weights,
// feedback and errors of the columns; block is that of L.
func (s *Refiner) feedbackParts(row PartRow, b0 int, w, sum, e []float32) {
	t, size, block := &s.parts, len(w), s.f.blocks[b0/solveBlock]
	for at := size - t.size; at >= 0; at -= t.size {
		copy(t.x, w[at:])
		copy(t.z, sum[at:])
		t.search(row, (b0+at)/t.size, block[at*size+at:], size, s.f.diagInverse[b0+at:], math.Inf(1), true)
		for j := at; j < at+t.size; j++ {
			e[j] = w[j] - row.Value(b0+j)
			kernel.AddScaled(sum[:at], block[j*size:j*size+at], e[j])
		}
	}
}

// descendParts searches the parts of a row in a block of columns, the first of which is at
// position b0, and keeps what lowers the error. It updates errors e and gradient g, adds the
// changes of the errors to d, all [size] as the weights w, and reports whether there are any.
//
// With L·Lᵀ the part's own block of H, the change of the error is ‖z - c·L‖² - ‖z‖² where
// z·Lᵀ is the part of the gradient.
func (s *Refiner) descendParts(row PartRow, b0 int, w, e, g, d []float32) (changed bool) {
	t, size, block := &s.parts, len(e), s.f.hBlocks[b0/solveBlock]
	for at := size - t.size; at >= 0; at -= t.size {
		p := (b0 + at) / t.size
		l, inverse := t.lower[p], t.inverse[p]
		before := 0.0
		for j := range t.size {
			z := float64(g[at+j]) - kernel.Dot(t.z[:j], l[j*t.size:j*t.size+j])
			t.z[j] = float32(z * float64(inverse[j]))
			t.x[j] = row.Value(b0 + at + j)
			before += float64(float64(t.z[j]) * float64(t.z[j]))
		}
		if !t.search(row, p, l, t.size, inverse, before*(1-searchMargin), false) {
			continue
		}
		changed = true
		for j := at; j < at+t.size; j++ {
			now := w[j] - row.Value(b0+j)
			if change := now - e[j]; change != 0 {
				d[j] += change
				e[j] = now
				kernel.AddScaled(g, block[j*size:(j+1)*size], change)
			}
		}
	}
	return changed
}

// searchMargin is the relative gain that a search must make, which rounding exceeds nowhere.
const searchMargin = 1e-5
