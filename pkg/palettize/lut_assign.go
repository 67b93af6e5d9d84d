package palettize

import (
	"math"
)

// palette is a look-up table, prepared for assigning values to entries.
type palette struct {
	n     int                   // distinct entries
	value [1 << MaxBits]float64 // [n] distinct entries, ascending
	first [1 << MaxBits]uint8   // [n] index of the first entry with that value
	above [1 << MaxBits]float64 // values above above[j] are nearer to entry j+1 than to j; +Inf for j ≥ n-1
}

// set prepares the ascending table lut.
func (p *palette) set(lut []uint16) {
	p.n = 0
	for i, e := range lut {
		if v := f16Value(e); p.n == 0 || v != p.value[p.n-1] {
			p.value[p.n], p.first[p.n] = v, uint8(i)
			p.n++
		}
	}
	for j := range p.above {
		p.above[j] = math.Inf(1)
		if j+1 < p.n {
			p.above[j] = (p.value[j] + p.value[j+1]) / 2 // exact: at most 42 bits
		}
	}
}

// measure assigns the ascending values of a histogram to entries and returns the error. It
// writes the indices to index, by code, unless codes is nil.
func (p *palette) measure(values, counts []float64, codes []uint16, index *[1 << 16]uint8) (r Report) {
	j := 0
	for i, v := range values {
		for v > p.above[j] {
			j++
		}
		d := v - p.value[j]
		r.SquaredError += counts[i] * (d * d)
		r.SquaredNorm += counts[i] * (v * v)
		if codes != nil {
			index[codes[i]] = p.first[j]
		}
	}
	return r
}
