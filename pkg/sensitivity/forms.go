package sensitivity

import (
	"cmp"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// FormWidths returns the stored form of every matrix of the model on a grid that is no palette, by
// module name: form for projections, what is usual beside it for the embedding and an untied head,
// and the form of the last matching override. A matrix whose columns its grid does not divide gets
// the next grid of the same family that does, or stays at 16 bits; notes say which. Beside
//
//   - blocks of ggml, embedding and head are q6_k, or q8_0 if form is that, as llama.cpp stores
//     them;
//   - an affine grid, they have the same group and the same bits, at least 4;
//   - integers, they stay at 16 bits: compressed-tensors quantizes linear layers, and the head only
//     if an override asks for it.
//
// Errors are fault.Usage.
func FormWidths(cfg *model.Config, form artifact.Form, overrides []Override) (widths map[string]Width, notes []string, err error) {
	l, err := newFormLayout(cfg, form)
	if err != nil {
		return nil, nil, err
	}
	for _, o := range overrides {
		if _, err := l.override(o); err != nil {
			return nil, nil, err
		}
	}
	notes = l.settle()
	if _, ok := l.grid.(grid.Integer); ok {
		err = checkFused(cfg, l.widths)
	}
	return l.widths, notes, err
}

// checkFused returns an error if modules that vLLM fuses into one have different forms of integers.
func checkFused(cfg *model.Config, widths map[string]Width) error {
	if a, b := untied(cfg, []Tie{TieQKV, TieGateUp}, widths); a != "" {
		return fault.Usagef("%s would be %v and %s %v, but vLLM fuses them and needs one form", a, widths[a], b, widths[b]).
			WithHint("let an override match all of q_proj, k_proj and v_proj, or both gate_proj and up_proj")
	}
	return nil
}

// formLayout assigns forms of one family to the matrices of a model.
type formLayout struct {
	grid    grid.Grid
	widths  map[string]Width
	cols    map[string]int
	modules []string // in canonical order
	head    bool     // the model has a head of its own
	input   string   // the embedding
}

// formGrid returns the grid of a form. The type of its scales does not matter here.
func formGrid(f artifact.Form) (grid.Grid, error) {
	g, ok := f.Grid(safetensors.F16)
	if !ok {
		return nil, fault.Usagef("%q is not a form of a grid such as q4_k, affine4_g64 or symmetric4_g128", f)
	}
	return g, nil
}

// newFormLayout returns the layout without overrides.
func newFormLayout(cfg *model.Config, form artifact.Form) (*formLayout, error) {
	g, err := formGrid(form)
	if err != nil {
		return nil, err
	}
	l := &formLayout{grid: g, widths: map[string]Width{}, cols: map[string]int{}}
	for _, spec := range cfg.Tensors() {
		name := spec.Module()
		switch spec.Role {
		case model.Projection:
			l.widths[name] = gridWidth(g)
		case model.Head, model.Embedding:
			l.widths[name] = endWidth(g)
			if spec.Role == model.Head {
				l.head = true
			} else {
				l.input = name
			}
		default:
			continue
		}
		l.cols[name] = spec.Shape[1]
		l.modules = append(l.modules, name)
	}
	return l, nil
}

func gridWidth(g grid.Grid) Width { return Width{artifact.GridForm(g), g.CodeBits()} }

// endWidth returns the form of embedding and head, on which a model depends the most, beside
// projections on a grid.
func endWidth(g grid.Grid) Width {
	switch g := g.(type) {
	case grid.Block:
		if g.Type != ggml.Q8_0 {
			g.Type = ggml.Q6_K
		}
		return gridWidth(g)
	case grid.Affine:
		g.Bits = max(g.Bits, 4)
		return gridWidth(g)
	}
	return Width{Form: artifact.Plain}
}

// override applies an override and returns the names that it matches.
func (l *formLayout) override(o Override) ([]string, error) {
	re, err := o.compile()
	if err != nil {
		return nil, err
	}
	w, err := l.overrideWidth(o)
	if err != nil {
		return nil, err
	}
	var hit []string
	for _, name := range l.modules {
		if !re.MatchString(name) {
			continue
		}
		if _, integer := l.grid.(grid.Integer); integer && name == l.input && w.Form != artifact.Plain {
			return nil, fault.Usagef("override %q matches %s, but compressed-tensors keeps an embedding at 16 bits", o, name).
				WithHint("use a pattern that does not match it, for example '_proj$'")
		}
		hit = append(hit, name)
		l.widths[name] = w
	}
	if len(hit) == 0 {
		return nil, noMatch(o, re, l.modules, l.head)
	}
	return hit, nil
}

// overrideWidth returns what an override asks for: a form of the same family, other bits of the same
// grid, or 16 bits.
func (l *formLayout) overrideWidth(o Override) (Width, error) {
	family := grid.Family(l.grid)
	if o.Form != "" {
		g, err := formGrid(o.Form)
		if err != nil {
			return Width{}, err
		}
		if grid.Family(g) != family {
			return Width{}, fault.Usagef("override %q: %s belongs to --grid %s, not %s", o, o.Form, grid.Family(g), family)
		}
		return gridWidth(g), nil
	}
	if o.Bits == artifact.KeepBits {
		return Width{Form: artifact.Plain}, nil
	}
	var g grid.Grid
	switch x := l.grid.(type) {
	case grid.Affine:
		x.Bits = o.Bits
		g = x
	case grid.Integer:
		x.Bits = o.Bits
		g = x
	default:
		return Width{}, fault.Usagef("override %q: blocks have types such as q6_k, or 16 for 16 bits", o)
	}
	if _, ok := artifact.GridForm(g).Grid(safetensors.F16); !ok {
		return Width{}, fault.Usagef("override %q: the %s grid has no codes of %d bits", o, family, o.Bits)
	}
	return gridWidth(g), nil
}

// optionWidths returns the widths that modules choose from: palettes of these bits or, if there are
// any, forms.
func optionWidths(bits []int, forms []artifact.Form) []Width {
	var out []Width
	for _, f := range forms {
		w := Width{Form: f}
		if g, ok := f.Grid(safetensors.F16); ok {
			w.Bits = g.CodeBits()
		}
		out = append(out, w)
	}
	if len(forms) > 0 {
		return out
	}
	for _, b := range bits {
		out = append(out, Width{artifact.Palette, b})
	}
	return out
}

// sortForms sorts forms of one family by the size of a matrix, and removes duplicates. Errors are
// fault.Usage.
func sortForms(forms []artifact.Form) ([]artifact.Form, error) {
	sizes, family := map[artifact.Form]int64{}, ""
	for _, f := range forms {
		g, err := formGrid(f)
		if err != nil {
			return nil, err
		}
		if family != "" && grid.Family(g) != family {
			return nil, fault.Usagef("%s and %s are not of the same grid", forms[0], f)
		}
		family = grid.Family(g)
		size := int64(0)
		for _, t := range g.Tensors(4096, 4096) {
			n, err := t.Bytes()
			if err != nil {
				return nil, err
			}
			size += n
		}
		sizes[f] = size
	}
	out := slices.Clone(forms)
	slices.SortFunc(out, func(a, b artifact.Form) int {
		return cmp.Or(cmp.Compare(sizes[a], sizes[b]), cmp.Compare(a, b))
	})
	return slices.Compact(out), nil
}
