package grid

import (
	"afmq/pkg/ggml"
	"afmq/pkg/gptq"
)

// blockCodes are the blocks of a chunk of rows, for package gptq. A row is a group; its parameters are
// D and DMin of each of its blocks. Columns of weights are in the order of the Hessian factor,
// those of blocks in that of the matrix.
type blockCodes struct {
	t     ggml.Type
	order []int32
	size  int // weights of a block
	part  int // weights of a part

	rows    int
	weights []float32    // [rows, n]
	blocks  []ggml.Block // [rows, n/size]
	kept    []ggml.Block
	steps   []ggml.Step // [rows, n/part]
	row     blockRow
}

func newBlockCodes(t ggml.Type, order []int32) *blockCodes {
	return &blockCodes{t: t, order: order, size: t.BlockWeights(), part: t.PartWeights()}
}

// perRow returns the number of blocks of a row.
func (s *blockCodes) perRow() int { return len(s.order) / s.size }

func (s *blockCodes) load(w []float32, rows int, importance []float32) {
	n := len(s.order)
	s.rows = rows
	s.weights, s.steps = grow(s.weights, rows*n), grow(s.steps, rows*n/s.part)
	s.blocks, s.kept = grow(s.blocks, rows*s.perRow()), grow(s.kept, rows*s.perRow())
	for r := range rows {
		for i, c := range s.order {
			s.weights[r*n+i] = w[r*n+int(c)]
		}
		for b := range s.perRow() {
			block := &s.blocks[r*s.perRow()+b]
			block.Type = s.t
			block.Fit(w[r*n+b*s.size:][:s.size], importance[b*s.size:][:s.size])
		}
		s.setSteps(r)
	}
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// setSteps computes the steps of a row from its blocks.
func (s *blockCodes) setSteps(r int) {
	parts := s.size / s.part
	for b := range s.perRow() {
		for i := range parts {
			s.steps[(r*s.perRow()+b)*parts+i] = s.blocks[r*s.perRow()+b].Step(i)
		}
	}
}

func (s *blockCodes) ordered() []float32 { return s.weights }

func (s *blockCodes) store(data Data, first int) {
	n := s.t.BlockBytes()
	out := data[0][first*s.perRow()*n:]
	for i := range s.blocks[:s.rows*s.perRow()] {
		s.blocks[i].Pack(out[i*n : (i+1)*n])
	}
}

// blockRow is the row that Row returned last.
type blockRow struct {
	*blockCodes
	blocks   []ggml.Block
	steps    []ggml.Step
	settings []setting // of the part that is searched
}

func (s *blockCodes) Row(r int) gptq.Row {
	k, p := s.perRow(), len(s.order)/s.part
	s.row = blockRow{s, s.blocks[r*k : (r+1)*k], s.steps[r*p : (r+1)*p], s.row.settings}
	return &s.row
}

// code returns the code of a column of the matrix.
func (r *blockRow) code(c int) *uint8 { return &r.blocks[c/r.size].Codes[c%r.size] }

func (r *blockRow) Value(j int) float32 {
	c := int(r.order[j])
	return r.t.Value(*r.code(c), r.steps[c/r.part])
}

func (r *blockRow) Nearest(j int, target float32) (uint8, float32) {
	return r.t.Nearest(target, r.steps[int(r.order[j])/r.part])
}

func (r *blockRow) Set(j int, code uint8) { *r.code(int(r.order[j])) = code }

func (s *blockCodes) Errors(dst, weights []float32) {
	n := len(s.order)
	for r := range s.rows {
		row := s.Row(r)
		for j := range n {
			dst[r*n+j] = weights[r*n+j] - row.Value(j)
		}
	}
}

func (s *blockCodes) Groups() int { return s.rows }

func (s *blockCodes) GroupRows(g int) (first, end int) { return g, g + 1 }

func (s *blockCodes) Parameters() int { return 2 * s.perRow() }

// eachWeight calls f for every weight of the chunk with its element of a matrix [rows, n] and what
// the two parameters of its block are multiplied with in it.
func (s *blockCodes) eachWeight(f func(at, parameter int, d, dmin float64)) {
	n := len(s.order)
	for r := range s.rows {
		for j, c := range s.order {
			b := r*s.perRow() + int(c)/s.size
			d, dmin := s.blocks[b].Coefficients(int(c) % s.size)
			f(r*n+j, 2*b, float64(d), float64(dmin))
		}
	}
}

func (s *blockCodes) Gather(dst []float64, x []float32) {
	clear(dst)
	s.eachWeight(func(at, p int, d, dmin float64) {
		v := float64(x[at])
		dst[p] += d * v
		dst[p+1] += dmin * v
	})
}

func (s *blockCodes) Spread(dst []float32, direction []float64) {
	s.eachWeight(func(at, p int, d, dmin float64) {
		dst[at] = float32(d*direction[p] + dmin*direction[p+1])
	})
}

func (s *blockCodes) Curvature(dst, diag []float64, rows []float32) {
	n := len(s.order)
	clear(dst)
	s.eachWeight(func(at, p int, d, dmin float64) {
		h := diag[at%n]
		if rows != nil {
			h = float64(h * float64(rows[at/n]))
		}
		dst[p] += d * d * h
		dst[p+1] += dmin * dmin * h
	})
}

func (s *blockCodes) Move(g int, change []float64) {
	k := s.perRow()
	for b := range k {
		block := &s.blocks[g*k+b]
		d, dmin := block.Factors()
		block.SetFactors(d+change[2*b], dmin+change[2*b+1])
	}
	s.setSteps(g)
}

func (s *blockCodes) Keep(g int) {
	k := s.perRow()
	copy(s.kept[g*k:(g+1)*k], s.blocks[g*k:(g+1)*k])
}

func (s *blockCodes) Restore(g int) {
	k := s.perRow()
	copy(s.blocks[g*k:(g+1)*k], s.kept[g*k:(g+1)*k])
	s.setSteps(g)
}
