package grid

import (
	"afmq/pkg/gptq"
)

// scaledCodes are the groups of a chunk of rows, for package gptq. A row is a group in the sense of
// that package; its parameters are the scales of its groups of columns and, with biases, these
// after each scale. Columns of weights are in the order of the Hessian factor, those of codes in
// that of the matrix.
type scaledCodes struct {
	scaled
	order []int32
	size  int // columns of a group
	put   putRow

	rows    int
	weights []float32 // [rows, n]
	codes   []uint8   // [rows, n]
	groups  []group   // [rows, n/size]
	kept    struct {
		codes  []uint8
		groups []group
	}
	row scaledCodesRow
}

func newScaledCodes(s scaled, order []int32, put putRow) *scaledCodes {
	return &scaledCodes{scaled: s, order: order, size: s.columns(len(order)), put: put}
}

// perRow returns the number of groups of a row.
func (s *scaledCodes) perRow() int { return len(s.order) / s.size }

func (s *scaledCodes) load(w []float32, rows int, importance []float32) {
	n, k := len(s.order), s.perRow()
	s.rows = rows
	s.weights, s.codes, s.kept.codes = grow(s.weights, rows*n), grow(s.codes, rows*n), grow(s.kept.codes, rows*n)
	s.groups, s.kept.groups = grow(s.groups, rows*k), grow(s.kept.groups, rows*k)
	fit := newScaledFitter(s.scaled, s.size)
	for r := range rows {
		for i, c := range s.order {
			s.weights[r*n+i] = w[r*n+int(c)]
		}
		for g := range k {
			at := g * s.size
			x := fit.fit(w[r*n+at:][:s.size], importance[at:][:s.size])
			s.groups[r*k+g] = x
			for j := at; j < at+s.size; j++ {
				s.codes[r*n+j] = s.nearest(&x, w[r*n+j])
			}
		}
	}
}

func (s *scaledCodes) ordered() []float32 { return s.weights }

func (s *scaledCodes) store(data Data, first int) {
	n, k := len(s.order), s.perRow()
	for r := range s.rows {
		s.put(data, first+r, &scaledRow{s.codes[r*n : (r+1)*n], s.groups[r*k : (r+1)*k]})
	}
}

// scaledCodesRow is the row that Row returned last.
type scaledCodesRow struct {
	*scaledCodes
	codes    []uint8
	groups   []group
	settings []group // of the part that is searched
}

func (s *scaledCodes) Row(r int) gptq.Row {
	n, k := len(s.order), s.perRow()
	s.row = scaledCodesRow{s, s.codes[r*n : (r+1)*n], s.groups[r*k : (r+1)*k], s.row.settings}
	return &s.row
}

func (r *scaledCodesRow) Value(j int) float32 {
	c := int(r.order[j])
	return r.groups[c/r.size].value(r.codes[c])
}

func (r *scaledCodesRow) Nearest(j int, target float32) (uint8, float32) {
	g := &r.groups[int(r.order[j])/r.size]
	code := r.nearest(g, target)
	return code, g.value(code)
}

func (r *scaledCodesRow) Set(j int, code uint8) { r.codes[r.order[j]] = code }

func (s *scaledCodes) Errors(dst, weights []float32) {
	n := len(s.order)
	for r := range s.rows {
		row := s.Row(r)
		for j := range n {
			dst[r*n+j] = weights[r*n+j] - row.Value(j)
		}
	}
}

func (s *scaledCodes) Groups() int { return s.rows }

func (s *scaledCodes) GroupRows(g int) (first, end int) { return g, g + 1 }

// each returns the number of parameters of a group of columns.
func (s *scaledCodes) each() int {
	if s.bias {
		return 2
	}
	return 1
}

func (s *scaledCodes) Parameters() int { return s.each() * s.perRow() }

// eachWeight calls f for every weight of the chunk with its element of a matrix [rows, n], the first
// parameter of its group, and what the scale is multiplied with in it.
func (s *scaledCodes) eachWeight(f func(at, parameter int, level float64)) {
	n, k, each := len(s.order), s.perRow(), s.each()
	for r := range s.rows {
		for j, c := range s.order {
			g := r*k + int(c)/s.size
			f(r*n+j, each*g, float64(s.codes[r*n+int(c)])-float64(s.groups[g].zero))
		}
	}
}

func (s *scaledCodes) Gather(dst []float64, x []float32) {
	clear(dst)
	s.eachWeight(func(at, p int, level float64) {
		v := float64(x[at])
		dst[p] += float64(level * v)
		if s.bias {
			dst[p+1] += v
		}
	})
}

func (s *scaledCodes) Spread(dst []float32, direction []float64) {
	s.eachWeight(func(at, p int, level float64) {
		v := float64(level * direction[p])
		if s.bias {
			v += direction[p+1]
		}
		dst[at] = float32(v)
	})
}

func (s *scaledCodes) Curvature(dst, diag []float64, rows []float32) {
	n := len(s.order)
	clear(dst)
	s.eachWeight(func(at, p int, level float64) {
		h := diag[at%n]
		if rows != nil {
			h = float64(h * float64(rows[at/n]))
		}
		dst[p] += float64(float64(level*level) * h)
		if s.bias {
			dst[p+1] += h
		}
	})
}

func (s *scaledCodes) Move(g int, change []float64) {
	k, each := s.perRow(), s.each()
	for i := range k {
		x := &s.groups[g*k+i]
		bias := 0.0
		if s.bias {
			bias = float64(x.bias) + change[each*i+1]
		}
		if next := s.newGroup(float64(x.scale)+change[each*i], float64(x.zero), bias); next.scale != 0 {
			*x = next
		}
	}
}

func (s *scaledCodes) Keep(g int) {
	n, k := len(s.order), s.perRow()
	copy(s.kept.codes[g*n:(g+1)*n], s.codes[g*n:(g+1)*n])
	copy(s.kept.groups[g*k:(g+1)*k], s.groups[g*k:(g+1)*k])
}

func (s *scaledCodes) Restore(g int) {
	n, k := len(s.order), s.perRow()
	copy(s.codes[g*n:(g+1)*n], s.kept.codes[g*n:(g+1)*n])
	copy(s.groups[g*k:(g+1)*k], s.kept.groups[g*k:(g+1)*k])
}

// scaledParts are scaledCodes whose groups of columns choose their parameters with their codes.
type scaledParts struct {
	*scaledCodes
}

func (s *scaledParts) PartColumns() int { return s.size }

// groupAt returns the group of the part at position p.
func (r *scaledCodesRow) groupAt(p int) int { return int(r.order[p*r.size]) / r.size }

// Settings counts scales around the present one. With biases, each comes with the bias that keeps
// the mean of the part and those next to it; with zero points, with the zeros next to the present
// one.
func (r *scaledCodesRow) Settings(p int, wide bool) int {
	k := r.groupAt(p)
	now := r.groups[k]
	reach := 1
	if wide {
		reach = 2
	}
	level := 0.0
	for _, c := range r.codes[k*r.size:][:r.size] {
		level += (float64(c) - float64(now.zero)) / float64(r.size)
	}
	r.settings = append(r.settings[:0], now)
	scale := float64(now.scale)
	add := func(next group) {
		if next != now && next.scale != 0 {
			r.settings = append(r.settings, next)
		}
	}
	for i := -reach; i <= reach; i++ {
		change := scale * float64(i) * scaleStep / float64(r.levels)
		switch {
		case r.bias:
			for m := -1; m <= 1; m++ {
				add(r.newGroup(scale+change, 0, float64(now.bias)-float64(change*level)+float64(scale*float64(m)*biasStep)))
			}
		case r.zeros:
			for z := max(float64(now.zero)-1, 0); z <= min(float64(now.zero)+1, float64(r.levels-1)); z++ {
				add(r.newGroup(scale+change, z, 0))
			}
		default:
			add(r.newGroup(scale+change, float64(now.zero), 0))
		}
	}
	return len(r.settings)
}

// Distances of the settings that a part tries: of the scale, relative and times the number of
// codes, and of the bias in steps of the grid.
const (
	scaleStep = 0.25
	biasStep  = 0.125
)

func (r *scaledCodesRow) Try(p, setting int) { r.groups[r.groupAt(p)] = r.settings[setting] }

var _ gptq.PartCodes = (*scaledParts)(nil)
var _ gptq.PartRow = (*scaledCodesRow)(nil)
