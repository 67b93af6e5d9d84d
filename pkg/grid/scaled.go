package grid

import (
	"math"

	"afmq/pkg/compute"
	"afmq/pkg/gptq"
	"afmq/pkg/safetensors"
)

// scaled describes the grids whose weights are scale·(q - zero) + bias.
type scaled struct {
	levels int  // number of codes
	group  int  // columns of a group; 0 for a whole row
	bias   bool // groups have a bias, and zero is 0
	zeros  bool // groups have a zero, an integer; else zero is half the number of codes
	half   safetensors.DType
}

// columns returns the columns of a group in a row of n.
func (s *scaled) columns(n int) int {
	if s.group == 0 {
		return n
	}
	return s.group
}

// middle returns the zero of a grid without zero points.
func (s *scaled) middle() float32 {
	if s.bias {
		return 0
	}
	return float32(s.levels / 2)
}

// group holds the parameters of a group, as they are stored.
type group struct {
	scale, zero, bias   float32
	scaleBits, biasBits uint16
}

// value returns the weight of a code. The product has at most 19 significant bits and is exact.
func (g *group) value(code uint8) float32 {
	return float32(g.scale*(float32(code)-g.zero)) + g.bias
}

// newGroup rounds parameters to what is stored. A scale that would round to 0 is the smallest.
func (s *scaled) newGroup(scale, zero, bias float64) (g group) {
	g.scaleBits, g.scale = half(s.half, scale)
	if g.scale == 0 && scale != 0 {
		g.scaleBits = 1
		if scale < 0 {
			g.scaleBits |= 1 << 15
		}
		g.scale = widen(s.half, putHalves([]uint16{g.scaleBits}), 0, 1)[0]
	}
	g.zero = float32(zero)
	if s.bias {
		g.biasBits, g.bias = half(s.half, bias)
	}
	return g
}

// nearest returns the code whose weight is nearest to v.
func (s *scaled) nearest(g *group, v float32) uint8 {
	if g.scale == 0 {
		return uint8(g.zero)
	}
	q := math.RoundToEven(float64((v-g.bias)/g.scale + g.zero))
	return uint8(min(max(q, 0), float64(s.levels-1)))
}

// scaledRow is a row in its stored form.
type scaledRow struct {
	codes  []uint8 // [n]
	groups []group
}

// scaledRows is Grid.Weights for rows of cols columns in so many groups that get reads.
func scaledRows(cols, groups int, get func(row int, r *scaledRow)) Rows {
	return func(dst []float32, r0, r1 int) error {
		x := scaledRow{make([]uint8, cols), make([]group, groups)}
		size := cols / groups
		for r := r0; r < r1; r++ {
			get(r, &x)
			out := dst[(r-r0)*cols : (r-r0+1)*cols]
			for k := range x.groups {
				g := &x.groups[k]
				for j := k * size; j < (k+1)*size; j++ {
					out[j] = g.value(x.codes[j])
				}
			}
		}
		return nil
	}
}

// putRow stores a row.
type putRow func(data Data, row int, r *scaledRow)

// quantizeScaled is Grid.Quantize.
func quantizeScaled(pool *compute.Pool, g Grid, s scaled, src Source, rows, cols int, importance []float32, put putRow) (Data, gptq.Report, error) {
	if err := g.Check(cols); err != nil {
		return nil, gptq.Report{}, err
	}
	data, n := allocate(g, rows, cols), s.columns(cols)
	report, err := eachRow(pool, g, src, rows, cols, importance, func() rowQuantizer {
		fit := newScaledFitter(s, n)
		r := scaledRow{make([]uint8, cols), make([]group, cols/n)}
		return func(got []float32, row int, w, importance []float32) {
			for k := range r.groups {
				x := fit.fit(w[k*n:(k+1)*n], importance[k*n:(k+1)*n])
				r.groups[k] = x
				for j := k * n; j < (k+1)*n; j++ {
					r.codes[j] = s.nearest(&x, w[j])
					got[j] = x.value(r.codes[j])
				}
			}
			put(data, row, &r)
		}
	})
	if err != nil {
		return nil, report, err
	}
	return data, report, nil
}

// compensateScaled is Grid.Compensate.
func compensateScaled(pool *compute.Pool, g Grid, s scaled, src Source, rows, cols int, f *gptq.Factor, out *gptq.Output, put putRow) (Data, gptq.Report, error) {
	return compensateRows(pool, g, src, rows, cols, f, out, func() chunk {
		c := newScaledCodes(s, f.Order(), put)
		if s.group == 0 {
			return c
		}
		return &scaledParts{scaledCodes: c}
	})
}
