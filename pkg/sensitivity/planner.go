package sensitivity

import (
	"fmt"
	"math"
	"math/rand/v2"
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
	a, size, budget, err := p.allocate(choices, budget)
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
	if plan.Baselines, err = p.baselines(s, choices, budget); err != nil || len(r.Bits) == len(s.Bits) {
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

// allocate solves the problem. With a bound on the file the header counts, whose length
// depends on the choice by some bytes: the budget shrinks by what the first solution
// passes it by, until one fits.
func (p *planner) allocate(choices []Choice, budget int64) (*Allocation, Size, int64, error) {
	for {
		a, err := Allocate(choices, budget)
		if err != nil {
			return nil, Size{}, 0, err
		}
		size, err := p.measure(a.Picks)
		if err != nil {
			return nil, Size{}, 0, err
		}
		over := int64(0)
		if t := p.request.Target; t.MaxBytes > 0 {
			over = size.FileBytes - t.MaxBytes
		}
		if over <= 0 {
			return a, size, budget, nil
		}
		budget -= over
	}
}

// randomPlans is how many random plans the baseline is the mean of.
const randomPlans = 20

// baselines returns what simpler ways to choose within the same budget cost.
func (p *planner) baselines(s *Scores, choices []Choice, budget int64) ([]Baseline, error) {
	var out []Baseline
	add := func(name, note string, plans ...[]int) error {
		b := Baseline{Name: name, Note: note}
		for _, picks := range plans {
			size, err := p.measure(picks)
			if err != nil {
				return err
			}
			cost := 0.0
			for i, k := range picks {
				cost += choices[i].Options[k].Cost
			}
			b.BPW += size.BPW.Projections / float64(len(plans))
			b.Cost += cost / float64(len(plans))
		}
		out = append(out, b)
		return nil
	}
	top := len(p.request.Bits) - 1
	for o := top; o >= 0; o-- {
		if p.size(p.uniform(o)) <= budget || o == 0 {
			if err := add("uniform", fmt.Sprintf("%d bits everywhere", p.request.Bits[o]), p.uniform(o)); err != nil {
				return nil, err
			}
			break
		}
	}
	if err := add("random", fmt.Sprintf("mean of %d: modules in random order get the most bits while there is room", randomPlans), p.random(budget)...); err != nil {
		return nil, err
	}
	err := add("ends kept high", "layers from both ends inwards get the most bits while there is room", p.endsKeptHigh(budget))
	return out, err
}

func (p *planner) random(budget int64) [][]int {
	rng := rand.New(rand.NewPCG(uint64(p.request.Seed), 2))
	var out [][]int
	for range randomPlans {
		out = append(out, p.fill(rng.Perm(len(p.groups)), budget))
	}
	return out
}

func (p *planner) endsKeptHigh(budget int64) []int {
	last := p.shape.Config.Layers - 1
	order := make([]int, len(p.groups))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return min(p.groups[a].layer, last-p.groups[a].layer) - min(p.groups[b].layer, last-p.groups[b].layer)
	})
	return p.fill(order, budget)
}

// HeuristicPlans returns the plans that the baselines of [MakePlan] are about, for those
// who want to measure them: the one with the ends kept high, and the random ones.
func HeuristicPlans(s *Scores, shape *Shape, r Request) (endsKeptHigh *Plan, random []*Plan, err error) {
	if len(r.Bits) == 0 {
		r.Bits = s.Bits
	}
	p, err := newPlanner(shape, Storage{s.GroupRows, s.RowScale}, r)
	if err != nil {
		return nil, nil, err
	}
	budget, err := p.budget()
	if err != nil {
		return nil, nil, err
	}
	plan := func(picks []int) *Plan {
		out := &Plan{Schema: PlanSchema, Method: s.Method, GroupRows: s.GroupRows, RowScale: s.RowScale, Target: &p.request.Target}
		widths := p.widths(picks)
		for i, name := range projections(shape.Config) {
			c := p.cost(s, i, widths[name])
			out.Layers = append(out.Layers, PlanLayer{Name: name, Bits: planBits(widths[name]), Cost: c})
			out.Cost += c
		}
		return out
	}
	for _, picks := range p.random(budget) {
		random = append(random, plan(picks))
	}
	return plan(p.endsKeptHigh(budget)), random, nil
}

func (p *planner) size(picks []int) int64 {
	n := int64(0)
	for i, k := range picks {
		n += p.groups[i].sizes[k]
	}
	return n
}

// fill starts from the fewest bits and gives the groups, in order, the most that there
// is room for.
func (p *planner) fill(order []int, budget int64) []int {
	picks := p.uniform(0)
	left := budget - p.size(picks)
	for _, i := range order {
		sizes := p.groups[i].sizes
		for o := len(sizes) - 1; o > 0; o-- {
			if extra := sizes[o] - sizes[0]; extra <= left {
				picks[i] = o
				left -= extra
				break
			}
		}
	}
	return picks
}
