package grid

import (
	"math"

	"afmq/pkg/ggml"
)

// setting is what a part of a block chooses for itself: its integer scale and min or, in types
// whose blocks have one part, the factors.
type setting struct {
	scale   int8
	min     uint8
	d, dmin uint16
}

// factorStep is the relative distance of the factors that a block with one part tries, times the
// number of codes. On a model of 4.6 M parameters, 0.25 and 0.5 give about the same result.
const factorStep = 0.25

func (s *blockCodes) PartColumns() int { return s.part }

// partAt returns the block of the part at position p, and the part's number in the block and in
// the row.
func (r *blockRow) partAt(p int) (block *ggml.Block, inBlock, inRow int) {
	inRow = int(r.order[p*r.part]) / r.part
	per := r.size / r.part
	return &r.blocks[inRow/per], inRow % per, inRow
}

// Settings counts the scales next to the present one. Each comes with the min that keeps the mean
// of the part, and with the mins next to it.
func (r *blockRow) Settings(p int, wide bool) int {
	b, i, _ := r.partAt(p)
	r.settings = append(r.settings[:0], setting{b.Scales[i], b.Mins[i], b.D, b.DMin})
	level := 0.0
	for _, c := range b.Codes[i*r.part:][:r.part] {
		level += float64(r.t.Level(c)) / float64(r.part)
	}
	reach := 1
	if wide {
		reach = 2
	}
	if _, most := r.t.ScaleRange(); most == 0 {
		r.addFactors(b, level, reach)
	} else {
		r.addIntegers(b, i, level, reach)
	}
	return len(r.settings)
}

// addFactors adds settings of a block with one part, whose mean level is given.
func (r *blockRow) addFactors(b *ggml.Block, level float64, reach int) {
	d, dmin := b.Factors()
	for k := -reach; k <= reach; k++ {
		change := d * float64(k) * factorStep / float64(r.t.Codes())
		next := *b
		if dmin != 0 {
			next.SetFactors(d+change, dmin-float64(change*level))
		} else {
			next.SetFactors(d+change, dmin)
		}
		if next.D != b.D || next.DMin != b.DMin {
			r.settings = append(r.settings, setting{d: next.D, dmin: next.DMin})
		}
	}
}

// addIntegers adds settings of part i of a block, whose mean level is given.
func (r *blockRow) addIntegers(b *ggml.Block, i int, level float64, reach int) {
	d, dmin := b.Factors()
	least, most := r.t.ScaleRange()
	minReach := min(reach, r.t.MaxMin())
	for k := -reach; k <= reach; k++ {
		scale := int(b.Scales[i]) + k
		if scale < least || scale > most {
			continue
		}
		middle := int(b.Mins[i])
		if minReach > 0 && dmin != 0 {
			middle += int(math.RoundToEven(d * float64(k) * level / dmin))
		}
		for m := middle - minReach; m <= middle+minReach; m++ {
			if m >= 0 && m <= r.t.MaxMin() && (k != 0 || m != middle) {
				r.settings = append(r.settings, setting{int8(scale), uint8(m), b.D, b.DMin})
			}
		}
	}
}

func (r *blockRow) Try(p, k int) {
	b, i, part := r.partAt(p)
	s := r.settings[k]
	b.Scales[i], b.Mins[i], b.D, b.DMin = s.scale, s.min, s.d, s.dmin
	r.steps[part] = b.Step(i)
}
