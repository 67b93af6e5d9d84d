package sensitivity

import (
	"fmt"
	"math"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// Request asks for a plan.
type Request struct {
	Target    Target
	Bits      []int // widths to choose from; empty for all that were scored
	Ties      []Tie
	Overrides []Override
	Seed      int64 // of the random baseline
}

// planner is what making plans for one request needs.
type planner struct {
	shape   *Shape
	storage Storage
	request Request
	pinned  map[string]Width // by overrides, heads included
	base    map[string]Width // what becomes of every matrix, projections at the least width
	groups  []choiceGroup
}

// choiceGroup is modules that get equal bits.
type choiceGroup struct {
	name    string
	layer   int
	modules []int   // indices into the projections in canonical order
	sizes   []int64 // bytes by width
	pinned  bool
}

// newPlanner checks a request against a model. Errors are fault.Usage.
func newPlanner(shape *Shape, st Storage, r Request) (*planner, error) {
	if err := r.Target.check(); err != nil {
		return nil, fault.Usagef("target: %v", err)
	}
	r.Bits = slices.Clone(r.Bits)
	slices.Sort(r.Bits)
	if err := checkBits(r.Bits); err != nil {
		return nil, fault.Usagef("%v", err)
	}
	p := &planner{shape: shape, storage: st, request: r, pinned: map[string]Width{}}
	var err error
	if p.base, err = Widths(shape.Config, r.Bits[0], nil); err != nil {
		return nil, err
	}
	changed, err := Widths(shape.Config, 0, r.Overrides)
	if err != nil {
		return nil, err
	}
	for name, w := range changed {
		if w.Form == artifact.Palette && w.Bits == 0 || w == p.base[name] && w.Form == artifact.RowInt8 {
			continue
		}
		p.pinned[name], p.base[name] = w, w
	}
	return p, p.group()
}

// group makes the choices.
func (p *planner) group() error {
	at := map[string]int{}
	i := 0
	for _, spec := range p.shape.Config.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		name := spec.Module()
		pin, pinned := p.pinned[name]
		group := tieGroup(p.request.Ties, spec)
		k, ok := at[group]
		if !ok {
			k = len(p.groups)
			at[group] = k
			p.groups = append(p.groups, choiceGroup{name: group, layer: spec.Layer, pinned: pinned, sizes: make([]int64, len(p.options(pinned)))})
		}
		g := &p.groups[k]
		if g.pinned != pinned || pinned && pin != p.pinned[p.moduleName(g.modules, name)] {
			return fault.Usagef("the overrides give the tied modules of %s different bits", group)
		}
		g.modules = append(g.modules, i)
		for o, w := range p.options(pinned) {
			if pinned {
				w = pin
			}
			n, err := p.shape.moduleBytes(spec, p.storage, w)
			if err != nil {
				return err
			}
			g.sizes[o] += n
		}
		i++
	}
	return nil
}

// moduleName returns the name of a group's first module, or name while it has none.
func (p *planner) moduleName(modules []int, name string) string {
	if len(modules) == 0 {
		return name
	}
	return projections(p.shape.Config)[modules[0]]
}

// options returns the widths of a group.
func (p *planner) options(pinned bool) []Width {
	if pinned {
		return make([]Width, 1)
	}
	out := make([]Width, len(p.request.Bits))
	for i, b := range p.request.Bits {
		out[i] = Width{artifact.Palette, b}
	}
	return out
}

// widths returns what becomes of every matrix when the groups get the picked options.
func (p *planner) widths(picks []int) map[string]Width {
	out := make(map[string]Width, len(p.base))
	for name, w := range p.base {
		out[name] = w
	}
	names := projections(p.shape.Config)
	for i, g := range p.groups {
		for _, m := range g.modules {
			if !g.pinned {
				out[names[m]] = Width{artifact.Palette, p.request.Bits[picks[i]]}
			}
		}
	}
	return out
}

// uniform returns the picks that give every group the same option, counted from the
// narrowest, as far as it has one.
func (p *planner) uniform(option int) []int {
	picks := make([]int, len(p.groups))
	for i, g := range p.groups {
		picks[i] = min(option, len(g.sizes)-1)
	}
	return picks
}

// budget returns how many bytes the groups may take. Those of a head that is palettized
// and of all else are fixed.
func (p *planner) budget() (int64, error) {
	least, err := p.measure(p.uniform(0))
	if err != nil {
		return 0, err
	}
	groups := int64(0)
	for _, g := range p.groups {
		groups += g.sizes[0]
	}
	limit := int64(0)
	if t := p.request.Target; t.BPW > 0 {
		limit = bytesFor(t.BPW, least.Projections) - (least.ProjectionBits/8 - groups)
	} else {
		limit = t.MaxBytes - (least.FileBytes - groups)
	}
	if limit < groups {
		most, err := p.measure(p.uniform(len(p.request.Bits) - 1))
		if err != nil {
			return 0, err
		}
		return 0, fault.Infeasiblef("the target of %v cannot be reached: with %v bits a model takes %.4f to %.4f bits per weight in projections, %d to %d bytes in all",
			p.request.Target, p.request.Bits, least.BPW.Projections, most.BPW.Projections, least.FileBytes, most.FileBytes)
	}
	return limit, nil
}

// bytesFor returns the largest number of bytes that weights of bpw bits take.
func bytesFor(bpw float64, weights int64) int64 {
	n := int64(math.Floor(bpw * float64(weights) / 8))
	for n > 0 && float64(8*n)/float64(weights) > bpw {
		n--
	}
	for float64(8*(n+1))/float64(weights) <= bpw {
		n++
	}
	return n
}

func (p *planner) measure(picks []int) (Size, error) {
	return p.shape.Measure(p.storage, p.widths(picks))
}

// Feasible returns the most bytes that model.safetensors takes with a plan that keeps the
// request's target. If there is none it is an error of kind fault.Infeasible, with the
// reachable range; if the request makes no sense, one of kind fault.Usage. It needs no
// scores.
func Feasible(shape *Shape, st Storage, r Request) (int64, error) {
	p, err := newPlanner(shape, st, r)
	if err != nil {
		return 0, err
	}
	budget, err := p.budget()
	if err != nil {
		return 0, err
	}
	most, err := p.measure(p.uniform(len(p.request.Bits) - 1))
	if err != nil {
		return 0, err
	}
	return min(most.FileBytes, most.FileBytes-p.size(p.uniform(len(p.request.Bits)-1))+budget), nil
}

// MakePlan gives every module the bits that make the summed scores least within the
// target; see [Allocate].
func MakePlan(s *Scores, shape *Shape, r Request) (*Plan, error) {
	if len(r.Bits) == 0 {
		r.Bits = s.Bits
	}
	for _, b := range r.Bits {
		if !slices.Contains(s.Bits, b) {
			return nil, fault.Usagef("%d bits were not scored; there are scores for %v", b, s.Bits)
		}
	}
	p, err := newPlanner(shape, Storage{s.GroupRows, s.RowScale}, r)
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
		Target: &p.request.Target, Bits: p.request.Bits, Tie: r.Ties,
		BPW: size.BPW, Bytes: size.FileBytes, Cost: a.Cost, LowerBound: a.LowerBound, Optimal: a.Optimal,
	}
	widths := p.widths(a.Picks)
	names := projections(shape.Config)
	for i, name := range names {
		_, pinned := p.pinned[name]
		plan.Layers = append(plan.Layers, PlanLayer{name, planBits(widths[name]), p.cost(s, i, widths[name]), pinned})
	}
	if w, ok := p.pinned["lm_head"]; ok {
		plan.Layers = append(plan.Layers, PlanLayer{Name: "lm_head", Bits: planBits(w), Pinned: true})
	}
	if plan.Baselines, err = p.baselines(choices, budget); err != nil || len(r.Bits) == len(s.Bits) {
		return plan, err
	}
	r.Bits = s.Bits
	all, err := MakePlan(s, shape, r)
	if err != nil {
		return nil, err
	}
	plan.Baselines = append(plan.Baselines, Baseline{
		Name: "more widths", BPW: all.BPW.Projections, Cost: all.Cost, Note: fmt.Sprintf("the optimum with %v bits to choose from", s.Bits),
	})
	return plan, nil
}

func planBits(w Width) int {
	if w.Form == artifact.Palette {
		return w.Bits
	}
	return artifact.KeepBits
}

// cost returns the score of a projection at a width; 0 where it was not scored.
func (p *planner) cost(s *Scores, module int, w Width) float64 {
	if o := slices.Index(s.Bits, w.Bits); o >= 0 && w.Form == artifact.Palette {
		return s.Modules[module].Costs[o]
	}
	return 0
}

// choices puts scores and sizes together.
func (p *planner) choices(s *Scores) []Choice {
	out := make([]Choice, len(p.groups))
	names := projections(p.shape.Config)
	for i, g := range p.groups {
		out[i].Name = g.name
		for o, size := range g.sizes {
			opt := Option{Size: size}
			for _, m := range g.modules {
				w := p.base[names[m]]
				if !g.pinned {
					w = Width{artifact.Palette, p.request.Bits[o]}
				}
				opt.Bits = w.Bits
				opt.Cost += p.cost(s, m, w)
			}
			out[i].Options = append(out[i].Options, opt)
		}
	}
	return out
}

// allocate solves the problem. budget is that of the groups' data with the shortest header.
func (p *planner) allocate(choices []Choice, budget int64) (*Allocation, Size, error) {
	relaxed, err := Allocate(choices, budget)
	if err != nil {
		return nil, Size{}, err
	}
	size, err := p.measure(relaxed.Picks)
	if err != nil || p.keeps(size) {
		return relaxed, size, err
	}
	// The header of this choice is longer. With it the file exceeds its bound.
	a, size, err := p.shrink(choices, budget, size)
	if err != nil {
		return nil, Size{}, err
	}
	f, err := p.fileBound(p.request.Target.MaxBytes)
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

// keeps reports whether an artifact of this size keeps the bound on the file, if there is
// one. A bound on the bits per weight is exactly the budget.
func (p *planner) keeps(size Size) bool {
	return p.request.Target.MaxBytes == 0 || size.FileBytes <= p.request.Target.MaxBytes
}

// shrink finds a good allocation that keeps the bound on the file: it reduces the budget by
// the excess of each solution until one fits, at the latest that of the smallest options.
func (p *planner) shrink(choices []Choice, budget int64, size Size) (*Allocation, Size, error) {
	least := p.size(p.uniform(0))
	for {
		budget = max(budget-(size.FileBytes-p.request.Target.MaxBytes), least)
		a, err := Allocate(choices, budget)
		if err != nil {
			return nil, Size{}, err
		}
		if size, err = p.measure(a.Picks); err != nil || p.keeps(size) {
			return a, size, err
		}
		if budget == least {
			return nil, Size{}, fmt.Errorf("sensitivity: the smallest options exceed the target of %v", p.request.Target)
		}
	}
}

// size returns the data bytes of the groups.
func (p *planner) size(picks []int) int64 {
	n := int64(0)
	for i, k := range picks {
		n += p.groups[i].sizes[k]
	}
	return n
}
