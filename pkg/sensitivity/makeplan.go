package sensitivity

import (
	"fmt"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// Feasible checks that some plan keeps the target, without scores: with opts.Bits empty it
// assumes DefaultBits. It returns the most bytes that model.safetensors can have under the
// target. Errors are of kind fault.Infeasible, with the reachable range, or fault.Usage.
func Feasible(shape *Shape, st Storage, opts PlanOptions) (int64, error) {
	p, err := newPlanner(shape, st, opts)
	if err != nil {
		return 0, err
	}
	budget, err := p.budget()
	if err != nil {
		return 0, err
	}
	widest := p.most()
	most, err := p.measure(widest)
	if err != nil {
		return 0, err
	}
	return min(most.FileBytes, most.FileBytes-p.size(widest)+budget), nil
}

// MakePlan gives every module the bits that minimize the summed scores within the target;
// see [Allocate]. A bound on the bytes of the file is exact, header included.
//
// Errors are of kind fault.Infeasible, with the reachable range, if no plan keeps the
// target, or if the export target lacks what the options ask for, and fault.Usage for invalid
// options or widths that were not scored.
func MakePlan(s *Scores, opts PlanOptions) (*Plan, error) {
	p, err := plannerOf(s, opts)
	if err != nil {
		return nil, err
	}
	budget, err := p.budget()
	if err != nil {
		return nil, err
	}
	choices := p.choices(s)
	a, size, err := p.allocate(choices, budget)
	if err != nil {
		return nil, err
	}
	plan := &Plan{
		Schema: PlanSchema, ToolVersion: s.ToolVersion, Method: s.Method, GroupRows: s.GroupRows, RowScale: s.RowScale,
		Target: &p.opts.Target, Container: p.opts.Container, ExportTarget: p.opts.ExportTarget, Bits: p.opts.Bits, EndBits: p.allEndBits(), Forms: p.opts.Forms, Notes: p.notesOf(a.Picks), Tie: p.opts.Ties, Overrides: OverrideTexts(p.opts.Overrides), Seed: p.opts.Seed,
		BPW: size.BPW, Bytes: size.FileBytes, Cost: a.Cost, LowerBound: a.LowerBound, Optimal: a.Optimal,
	}
	widths := p.widths(a.Picks)
	for i, name := range projections(p.shape.Config) {
		_, pinned := p.pinned[name]
		l := newPlanLayer(name, widths[name])
		l.Cost, l.Pinned = p.cost(s, i, widths[name]), pinned
		plan.Layers = append(plan.Layers, l)
	}
	plan.Layers = append(plan.Layers, p.endLayers(s, widths)...)
	scored := p.allowed(s.Bits)
	if plan.Baselines, err = p.baselines(choices, budget); err != nil || len(p.opts.Bits) == len(scored) && len(p.opts.Forms) == len(s.Forms) {
		return plan, err
	}
	if n := len(s.Forms); n > 0 && !equalEnds(opts.Forms, s.Forms) {
		return plan, nil // embedding and head would differ, too
	}
	opts.Bits, opts.Forms = scored, s.Forms
	all, err := MakePlan(s, opts)
	if err != nil {
		return nil, err
	}
	found := "the optimum"
	if !all.Optimal {
		found = "the best plan found"
	}
	plan.Baselines = append(plan.Baselines, Baseline{
		Name: "more widths", BPW: p.opts.Target.Figure(all.BPW), Cost: all.Cost, Note: found + " with " + choiceText(scored, s.Forms) + " to choose from",
	})
	return plan, nil
}

// plannerOf returns the planner for scores.
func plannerOf(s *Scores, opts PlanOptions) (*planner, error) {
	shape, err := s.Shape()
	if err != nil {
		return nil, err
	}
	if len(s.Forms) > 0 || len(opts.Forms) > 0 {
		err = scoredForms(s, &opts)
	} else if opts.Bits, err = candidates(s.Bits, opts); err == nil {
		for _, b := range opts.Bits {
			if !slices.Contains(s.Bits, b) {
				return nil, fault.Usagef("%d bits were not scored; there are scores for %v", b, s.Bits)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if opts.Target.Of == OfModel && len(opts.Forms) == 0 && len(s.Ends) == 0 {
		return nil, fault.Usagef("the embedding was not scored, which bits per weight of the model need").
			WithHint("score it with `afmq sensitivity --embedding` or `afmq stats --embedding`, or bound the bits of the projections with --bpw-of projections")
	}
	p, err := newPlannerOf(shape, s.storage(), opts, s)
	if err == nil {
		p.scored = s.Bits
	}
	return p, err
}

// equalEnds reports whether embedding and head are stored alike beside either forms.
func equalEnds(a, b []artifact.Form) bool {
	x, err := formGrid(a[len(a)-1])
	if err != nil {
		return false
	}
	y, err := formGrid(b[len(b)-1])
	return err == nil && endWidth(x) == endWidth(y)
}

// choiceText names widths or forms to choose from.
func choiceText(bits []int, forms []artifact.Form) string {
	if len(forms) > 0 {
		return fmt.Sprint(forms)
	}
	return fmt.Sprintf("%v bits", bits)
}

// newPlanLayer returns the layer of a matrix.
func newPlanLayer(name string, w Width) PlanLayer {
	switch {
	case w.Form == artifact.Palette:
		return PlanLayer{Name: name, Bits: w.Bits}
	case w.Form.OnGrid():
		return PlanLayer{Name: name, Bits: w.Bits, Form: w.Form}
	case w.Form == artifact.RowInt8:
		return PlanLayer{Name: name, Bits: int8Bits, Form: w.Form}
	}
	return PlanLayer{Name: name, Bits: artifact.KeepBits}
}

// endLayers returns the layers of embedding and head: those that an override changes, and all if they
// take part in the allocation and on other grids, since a plan says how each is stored.
func (p *planner) endLayers(s *Scores, widths map[string]Width) (out []PlanLayer) {
	for _, spec := range p.shape.Config.Tensors() {
		w, ok := widths[spec.Module()]
		if _, pinned := p.pinned[spec.Module()]; ok && spec.Role != model.Projection && (pinned || len(p.opts.Forms) > 0 || p.takesEnds()) {
			l := newPlanLayer(spec.Module(), w)
			l.Pinned = pinned
			if p.takesEnds() {
				l.Cost, _ = s.EndCost(l.Name, w)
			}
			out = append(out, l)
		}
	}
	return out
}

// cost returns the score of a module, an index into p.names, at a width; 0 where it was not scored.
func (p *planner) cost(s *Scores, module int, w Width) float64 {
	if module >= len(s.Modules) {
		c, _ := s.EndCost(p.names[module], w)
		return c
	}
	c, _ := s.Cost(module, w)
	return c
}

// Cost returns the score of a module, an index into Modules, at a width; false if that was not
// scored.
func (s *Scores) Cost(module int, w Width) (float64, bool) {
	m := &s.Modules[module]
	for o, scored := range s.Widths() {
		if fitColumns(scored, m.Shape[1]) == w {
			return m.Costs[o], true
		}
	}
	return 0, false
}

// choices returns the knapsack problem: every group with the sizes and scores of its
// options.
func (p *planner) choices(s *Scores) []Choice {
	out := make([]Choice, len(p.groups))
	names := p.names
	for i, g := range p.groups {
		out[i].Name = g.name
		for o, size := range g.sizes {
			opt := Option{Size: size}
			for _, m := range g.modules {
				w := p.base[names[m]]
				if !g.pinned {
					w = p.width(names[m], o)
				}
				opt.Bits = w.Bits
				opt.Cost += p.cost(s, m, w)
			}
			out[i].Options = append(out[i].Options, opt)
		}
	}
	return out
}

// allocate solves the problem. budget is that of planner.budget.
func (p *planner) allocate(choices []Choice, budget int64) (*Allocation, Size, error) {
	relaxed, err := Allocate(choices, budget)
	if err != nil {
		return nil, Size{}, err
	}
	size, err := p.measure(relaxed.Picks)
	if err != nil || p.keeps(size) {
		return relaxed, size, err
	}
	// The header of this choice is longer than the budget assumes, and the file exceeds its
	// bound.
	a, size, err := p.shrink(choices, budget, size)
	if err != nil {
		return nil, Size{}, err
	}
	f, err := p.fileBound()
	if err != nil {
		return nil, Size{}, err
	}
	problem, err := newProblem(choices, budget)
	if err != nil {
		return nil, Size{}, err
	}
	better, complete := problem.searchFile(choices, f, a.Cost)
	if better != nil {
		a = better
		if size, err = p.measure(a.Picks); err == nil && !p.keeps(size) {
			err = fmt.Errorf("sensitivity: the file has %d bytes, more than was predicted", size.FileBytes)
		}
	}
	a.Optimal, a.LowerBound = complete, a.Cost
	if !complete {
		a.LowerBound = min(relaxed.LowerBound, a.Cost)
	}
	return a, size, err
}

// shrink finds a good allocation that keeps the bound on the file: it reduces the budget by
// the excess of each solution until one fits. That of the smallest options does.
func (p *planner) shrink(choices []Choice, budget int64, size Size) (*Allocation, Size, error) {
	least := p.size(p.least())
	for {
		budget = max(budget-(size.FileBytes-p.opts.Target.MaxBytes), least)
		a, err := Allocate(choices, budget)
		if err != nil {
			return nil, Size{}, err
		}
		if size, err = p.measure(a.Picks); err != nil || p.keeps(size) {
			return a, size, err
		}
		if budget == least {
			return nil, Size{}, fmt.Errorf("sensitivity: the smallest options exceed the budget of %v", p.opts.Target)
		}
	}
}
