package grid

import (
	"math"

	"afmq/pkg/compute"
)

// trainedScaled is a matrix of an affine or integer grid in training. The scales of Values are those
// of all groups, [rows, groups], and after them the biases.
type trainedScaled struct {
	scaled
	rows, cols, perRow int
	codes              []uint8 // [rows, cols]
	groups             []group // [rows, perRow]
	put                func(row int, r *scaledRow)
	data               func() Data
}

// Train returns a stored matrix in training: its scales, biases and codes. A scale keeps its sign,
// or stays 0 and its bias as it is.
func (g Affine) Train(data Data, rows, cols int) (Trainable, error) {
	if err := checkData(g, data, rows, cols); err != nil {
		return nil, err
	}
	own := data.clone()
	return newTrainedScaled(g.scaled(), rows, cols, func(row int, r *scaledRow) { g.get(own, row, r) },
		func(row int, r *scaledRow) { g.put(own, row, r) }, func() Data { return own }), nil
}

// Train returns a stored matrix in training: its scales and codes. A scale keeps its sign, or
// stays 0; zero points do not change.
func (g Integer) Train(data Data, rows, cols int) (Trainable, error) {
	if err := checkData(g, data, rows, cols); err != nil {
		return nil, err
	}
	own := data.clone()
	keep := &zeroPoints{Integer: g, groups: g.groups(cols)} // without zeros: they are in own as they were
	return newTrainedScaled(g.scaled(), rows, cols, func(row int, r *scaledRow) { g.get(own, row, r) },
		func(row int, r *scaledRow) { keep.put(own, row, r) }, func() Data { return own }), nil
}

func (d Data) clone() Data {
	out := make(Data, len(d))
	for i, b := range d {
		out[i] = append([]byte(nil), b...)
	}
	return out
}

func newTrainedScaled(s scaled, rows, cols int, get, put func(row int, r *scaledRow), data func() Data) *trainedScaled {
	n := s.columns(cols)
	t := &trainedScaled{scaled: s, rows: rows, cols: cols, perRow: cols / n, put: put, data: data}
	t.codes, t.groups = make([]uint8, rows*cols), make([]group, rows*t.perRow)
	for r := range rows {
		get(r, t.row(r))
	}
	return t
}

func (t *trainedScaled) row(r int) *scaledRow {
	return &scaledRow{t.codes[r*t.cols : (r+1)*t.cols], t.groups[r*t.perRow : (r+1)*t.perRow]}
}

func (t *trainedScaled) Lengths() (tables, scales, codes int) {
	scales = len(t.groups)
	if t.bias {
		scales *= 2
	}
	return 0, scales, len(t.codes)
}

func (t *trainedScaled) Read(v Values) {
	if len(v.Scales) > 0 {
		for i, x := range t.groups {
			v.Scales[i] = x.scale
			if t.bias {
				v.Scales[len(t.groups)+i] = x.bias
			}
		}
	}
	if len(v.Codes) > 0 {
		for i, c := range t.codes {
			v.Codes[i] = float32(c)
		}
	}
}

func (t *trainedScaled) Units(v Values) {
	if len(v.Scales) > 0 {
		typical := t.typical()
		for i, x := range t.groups {
			size := float32(math.Abs(float64(x.scale)))
			if size == 0 {
				size = typical
			}
			v.Scales[i] = size
			if t.bias {
				v.Scales[len(t.groups)+i] = size * float32(t.levels-1) / 2
			}
		}
	}
	fill(v.Codes, 1)
}

// typical returns the root mean square of the scales, or 1 if all are 0.
func (t *trainedScaled) typical() float32 {
	sum := 0.0
	for _, x := range t.groups {
		sum += float64(x.scale) * float64(x.scale)
	}
	return rootMean(sum, len(t.groups))
}

// rootMean returns √(sum/n), or 1 where that is 0.
func rootMean(sum float64, n int) float32 {
	if r := float32(math.Sqrt(sum / float64(n))); r > 0 {
		return r
	}
	return 1
}

func (t *trainedScaled) AddGradient(pool *compute.Pool, g Values, weights []float32) {
	n := t.cols / t.perRow
	pool.Run(t.rows, func(_, r int) {
		for k := range t.perRow {
			at := r*t.perRow + k
			x := &t.groups[at]
			if x.scale == 0 { // it stays as it is
				continue
			}
			first := r*t.cols + k*n
			row, codes := weights[first:first+n], t.codes[first:first+n]
			if len(g.Codes) > 0 {
				for i, d := range row {
					g.Codes[first+i] += float32(x.scale * d)
				}
			}
			if len(g.Scales) == 0 {
				continue
			}
			along, sum := 0.0, 0.0
			for i, d := range row {
				along += float64(float64(d) * (float64(codes[i]) - float64(x.zero)))
				sum += float64(d)
			}
			g.Scales[at] += float32(along)
			if t.bias {
				g.Scales[len(t.groups)+at] += float32(sum)
			}
		}
	})
}

func (t *trainedScaled) Store(pool *compute.Pool, v Values) {
	pool.Run(t.rows, func(_, r int) {
		row := t.row(r)
		if len(v.Scales) > 0 {
			for k := range row.groups {
				x, at := &row.groups[k], r*t.perRow+k
				bias := 0.0
				if t.bias {
					bias = float64(v.Scales[len(t.groups)+at])
				}
				if !finite(v.Scales[at]) || !finite(float32(bias)) {
					continue
				}
				scale := float64(v.Scales[at])
				switch { // newGroup rounds what is not 0 to no 0
				case x.scale == 0:
					scale = 0
				case scale*float64(x.scale) <= 0:
					scale = math.Copysign(math.SmallestNonzeroFloat32, float64(x.scale))
				}
				*x = t.newGroup(scale, float64(x.zero), bias)
			}
		}
		if len(v.Codes) > 0 {
			for i, x := range v.Codes[r*t.cols : (r+1)*t.cols] {
				if finite(x) {
					row.codes[i] = uint8(min(max(math.RoundToEven(float64(x)), 0), float64(t.levels-1)))
				}
			}
		}
		t.put(r, row)
	})
}

func (t *trainedScaled) Data() Data { return t.data() }
