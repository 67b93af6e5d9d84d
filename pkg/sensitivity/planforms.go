package sensitivity

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// chooseForms is chooseBits for forms of another grid. Embedding and head have what is usual beside
// the largest of them.
func (p *planner) chooseForms(opts *PlanOptions) (err error) {
	switch {
	case len(opts.Bits) > 0:
		return fault.Usagef("widths of palettes and forms of another grid exclude each other")
	case opts.Target.Of == OfModel:
		return refuseEnds(opts.Forms[0])
	case p.target != nil:
		return fault.Usagef("target %s runs palettes, not %s", p.target.Name, opts.Forms[0])
	}
	if opts.Forms, err = sortForms(opts.Forms); err != nil {
		return err
	}
	l, err := newFormLayout(p.shape.Config, opts.Forms[len(opts.Forms)-1])
	if err != nil {
		return err
	}
	if _, integer := l.grid.(grid.Integer); integer {
		// vLLM fuses these modules.
		for _, t := range []Tie{TieQKV, TieGateUp} {
			if !slices.Contains(opts.Ties, t) {
				opts.Ties = append(slices.Clone(opts.Ties), t)
			}
		}
	}
	for name := range p.cols {
		l.widths[name] = optionWidths(nil, opts.Forms)[0]
	}
	var pinned []string
	for _, o := range opts.Overrides {
		hit, err := l.override(o)
		if err != nil {
			return err
		}
		pinned = append(pinned, hit...)
	}
	p.asked = maps.Clone(l.widths)
	l.settle()
	p.base = l.widths
	for _, name := range pinned {
		p.pinned[name] = p.base[name]
	}
	return nil
}

// scoredForms sets the forms to choose from: those of the options, or all that were scored.
func scoredForms(s *Scores, opts *PlanOptions) error {
	switch {
	case len(s.Forms) == 0:
		return fault.Usagef("%s was not scored; there are scores for palettes of %v bits", opts.Forms[0], s.Bits)
	case len(opts.Bits) > 0:
		return fault.Usagef("the scores are not of palettes but of %v", s.Forms).WithHint("without --bits the plan chooses among all of them")
	case len(opts.Forms) == 0:
		opts.Forms = s.Forms
	}
	for _, f := range opts.Forms {
		if !slices.Contains(s.Forms, f) {
			return fault.Usagef("%s was not scored; there are scores for %v", f, s.Forms)
		}
	}
	return nil
}

// notesOf returns lines for people about modules whose columns do not allow the forms that they
// would have.
func (p *planner) notesOf(picks []int) []string {
	if len(p.opts.Forms) == 0 {
		return nil
	}
	l := formLayout{widths: maps.Clone(p.asked), cols: map[string]int{}}
	for _, spec := range p.shape.Config.Tensors() {
		if _, ok := l.widths[spec.Module()]; ok && len(spec.Shape) == 2 {
			l.modules = append(l.modules, spec.Module())
			l.cols[spec.Module()] = spec.Shape[1]
		}
	}
	names := projections(p.shape.Config)
	for i, g := range p.groups {
		for _, m := range g.modules {
			if !g.pinned {
				l.widths[names[m]] = p.list[picks[i]]
			}
		}
	}
	return l.settle()
}

// checkForm checks that the form of a layer, if it has one, fits its bits.
func (l *PlanLayer) checkForm() error {
	if l.Form == "" {
		return nil
	}
	g, ok := l.Form.Grid(safetensors.F16)
	switch {
	case l.Form == artifact.RowInt8 && l.Bits == int8Bits:
		return nil
	case l.Form == artifact.RowInt8:
		return fmt.Errorf("form %s has %d bits, but bits is %d", l.Form, int8Bits, l.Bits)
	case !ok:
		return fmt.Errorf("form is %.40q, which is no grid such as q4_k or affine4_g64", l.Form)
	case g.CodeBits() != l.Bits:
		return fmt.Errorf("form %s has %d bits, but bits is %d", l.Form, g.CodeBits(), l.Bits)
	}
	return nil
}

// Formed reports whether the plan is for a grid that is no palette.
func (p *Plan) Formed() bool {
	return len(p.Forms) > 0 || slices.ContainsFunc(p.Layers, func(l PlanLayer) bool { return l.Form != "" && l.Form != artifact.RowInt8 })
}

// formWidths is Widths of a plan for a grid that is no palette. A layer whose columns its form does
// not divide is an error, since the plan says what each layer has.
func (p *Plan) formWidths(file string, shape *Shape) (map[string]Width, error) {
	widths := map[string]Width{}
	family := ""
	left := map[string]PlanLayer{}
	for _, l := range p.Layers {
		left[l.Name] = l
	}
	for _, spec := range shape.Config.Tensors() {
		if len(spec.Shape) != 2 {
			continue
		}
		name := spec.Module()
		l, ok := left[name]
		if !ok {
			return nil, fault.Inputf(file, "layer %q of the model is not in the plan", name)
		}
		delete(left, name)
		if l.Form == artifact.RowInt8 {
			return nil, fault.Inputf(file, "layer %q has form %s, which belongs to palettes, but others have forms of a grid", name, l.Form)
		}
		if l.Form == "" && l.Bits != artifact.KeepBits {
			return nil, fault.Inputf(file, "layer %q has %d bits and no form, but others have forms", name, l.Bits)
		}
		widths[name] = Width{Form: artifact.Plain}
		if l.Form == "" {
			continue
		}
		g, _ := l.Form.Grid(safetensors.F16)
		if err := g.Check(spec.Shape[1]); err != nil {
			return nil, fault.Inputf(file, "layer %q: %v", name, err).WithHint("the next form would be %v", fitColumns(gridWidth(g), spec.Shape[1]))
		}
		if f := grid.Family(g); family != "" && f != family {
			return nil, fault.Inputf(file, "layer %q has form %s; another has one of --grid %s", name, l.Form, family)
		} else {
			family = f
		}
		if _, integer := g.(grid.Integer); integer && spec.Role == model.Embedding {
			return nil, fault.Inputf(file, "layer %q has form %s, but compressed-tensors keeps an embedding at 16 bits", name, l.Form)
		}
		widths[name] = gridWidth(g)
	}
	for _, l := range p.Layers {
		if _, ok := left[l.Name]; ok {
			return nil, fault.Inputf(file, "layer %q is not a matrix of the model; the nearest names are %s", l.Name, strings.Join(nearest(l.Name, projections(shape.Config), 3), ", ")).
				WithHint("a plan is for the model whose scores it was made from; after an edit, check the spelling")
		}
	}
	if family == grid.FamilySymmetric {
		if err := checkFused(shape.Config, widths); err != nil {
			return nil, fault.Inputf(file, "%v", err)
		}
	}
	return widths, p.checkTies(file, shape, widths)
}
