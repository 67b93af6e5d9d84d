package sensitivity

import (
	"fmt"
	"sort"

	"afmq/pkg/artifact"
	"afmq/pkg/ggml"
	"afmq/pkg/grid"
	"afmq/pkg/safetensors"
)

// settle replaces the forms of matrices whose columns they do not divide. It returns a note for
// each kind of replacement.
func (l *formLayout) settle() (notes []string) {
	changed := map[string][]string{}
	for _, name := range l.modules {
		w := l.widths[name]
		next := fitColumns(w, l.cols[name])
		if next == w {
			continue
		}
		l.widths[name] = next
		stored := next.String()
		if next.Form == artifact.Plain {
			stored = "unquantized"
		}
		g, _ := w.Form.Grid(safetensors.F16)
		key := fmt.Sprintf("%s instead of %s: %d columns are not a multiple of %d", stored, w, l.cols[name], gridColumns(g))
		changed[key] = append(changed[key], name)
	}
	for key, names := range changed {
		notes = append(notes, summarize(names)+": "+key)
	}
	sort.Strings(notes)
	return notes
}

// gridColumns returns what the columns of a matrix on a grid are a multiple of.
func gridColumns(g grid.Grid) int {
	switch g := g.(type) {
	case grid.Block:
		return g.Type.BlockWeights()
	case grid.Affine:
		return g.Group
	case grid.Integer:
		return max(g.Group, 1)
	}
	return 1
}

// fitColumns returns the width of a matrix of cols columns that asks for w: w itself if its grid
// divides the columns, or the next one of its family, or 16 bits.
func fitColumns(w Width, cols int) Width {
	g, ok := w.Form.Grid(safetensors.F16)
	if !ok || g.Check(cols) == nil {
		return w
	}
	switch g := g.(type) {
	case grid.Block:
		return nextWidth(g.Type, cols)
	case grid.Affine:
		for g.Group > 32 {
			if g.Group /= 2; g.Check(cols) == nil {
				return gridWidth(g)
			}
		}
	case grid.Integer:
		for g.Group > 32 {
			if g.Group /= 2; g.Check(cols) == nil {
				return gridWidth(g)
			}
		}
		g.Group = 0
		return gridWidth(g)
	}
	return Width{Form: artifact.Plain}
}

// nextWidth returns what stores rows of cols weights that the blocks of t do not divide: the type
// of 32 weights in a block with at least the bits of t, or 16 bits.
func nextWidth(t ggml.Type, cols int) Width {
	if cols%32 != 0 {
		return Width{Form: artifact.Plain}
	}
	switch t {
	case ggml.Q6_K:
		t = ggml.Q8_0
	case ggml.Q5_K:
		t = ggml.Q5_0
	default:
		t = ggml.IQ4_NL
	}
	return gridWidth(grid.Block{Type: t})
}

// summarize names modules in a few words: the first, and how many more.
func summarize(names []string) string {
	switch n := len(names) - 1; n {
	case 0:
		return names[0]
	case 1:
		return names[0] + " and 1 more module"
	default:
		return fmt.Sprintf("%s and %d more modules", names[0], n)
	}
}
