package sensitivity

import (
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// EndScore holds the scores of the embedding, or of a head of its own. Those of an embedding that is
// also the head are of both uses.
type EndScore struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"` // [vocab, hidden]
	// Bits are the scored widths, ascending: 8 is rows of int8, the others are palettes.
	Bits  []int     `json:"bits"`
	Costs []float64 `json:"costs"` // in the order of Bits
}

// int8Bits stands for rows of int8 among the widths of embedding and head.
const int8Bits = 8

// endBits returns the widths that embedding and head choose from beside projections of some widths:
// the same and those of 4 to 6 bits as palettes, and rows of int8.
func endBits(bits []int) []int {
	out := append([]int{4, 5, 6, int8Bits}, bits...)
	slices.Sort(out)
	return slices.Compact(out)
}

// widthOfEnd returns the stored form of a width of embedding or head.
func widthOfEnd(bits int) Width {
	if bits == int8Bits {
		return Width{Form: artifact.RowInt8}
	}
	return Width{artifact.Palette, bits}
}

func endWidths(bits []int) (out []Width) {
	for _, b := range bits {
		out = append(out, widthOfEnd(b))
	}
	return out
}

// refuseEnds is the error for a choice of embedding and head beside another grid.
func refuseEnds(form artifact.Form) error {
	return fault.Usagef("embedding and head are chosen beside palettes, not beside %s", form).
		WithHint("omit --bpw-of and --embedding: beside other grids both have one form; --override sets another")
}

// isEnd reports whether a tensor is the embedding or a head of its own.
func isEnd(spec model.TensorSpec) bool {
	return spec.Role == model.Embedding || spec.Role == model.Head
}

// checkEnds checks the scores of embedding and head, if there are any.
func (s *Scores) checkEnds(file string, cfg *model.Config) error {
	if len(s.Ends) == 0 {
		return nil
	}
	var ends []model.TensorSpec
	for _, spec := range cfg.Tensors() {
		if isEnd(spec) {
			ends = append(ends, spec)
		}
	}
	if len(s.Ends) != len(ends) {
		return fault.Inputf(file, "scores %d matrices beside the projections; its config has %d", len(s.Ends), len(ends))
	}
	for i, spec := range ends {
		e := s.Ends[i]
		if e.Name != spec.Module() || !slices.Equal(e.Shape, spec.Shape) {
			return fault.Inputf(file, "end %d is %q %v; its config has %q %v", i+1, e.Name, e.Shape, spec.Module(), spec.Shape)
		}
		if err := checkBits(e.Bits); err != nil {
			return fault.Inputf(file, "%q: bits: %v", e.Name, err)
		}
		if err := checkCosts(file, e.Name, e.Costs, len(e.Bits)); err != nil {
			return err
		}
	}
	return nil
}

// units returns the number of matrices that are scored: projections, embedding and head.
func (s *Scores) units() int { return len(s.Modules) + len(s.Ends) }

// costs returns the costs of the unit i, which may be changed.
func (s *Scores) costs(i int) []float64 {
	if i < len(s.Modules) {
		return s.Modules[i].Costs
	}
	return s.Ends[i-len(s.Modules)].Costs
}

// unitName returns the name of the unit i.
func (s *Scores) unitName(i int) string {
	if i < len(s.Modules) {
		return s.Modules[i].Name
	}
	return s.Ends[i-len(s.Modules)].Name
}

// clone returns scores whose costs are all 0 and their own.
func (s *Scores) clone() *Scores {
	c := *s
	c.Modules, c.Ends = slices.Clone(s.Modules), slices.Clone(s.Ends)
	for i := range c.Modules {
		c.Modules[i].Costs = make([]float64, len(s.Modules[i].Costs))
	}
	for i := range c.Ends {
		c.Ends[i].Costs = make([]float64, len(s.Ends[i].Costs))
	}
	return &c
}

// EndCost returns the score of the embedding or of a head of its own at a width; false if that was not
// scored.
func (s *Scores) EndCost(name string, w Width) (float64, bool) {
	for i := range s.Ends {
		if s.Ends[i].Name != name {
			continue
		}
		for k, bits := range s.Ends[i].Bits {
			if widthOfEnd(bits) == w {
				return s.Ends[i].Costs[k], true
			}
		}
	}
	return 0, false
}
