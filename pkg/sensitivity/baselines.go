package sensitivity

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"afmq/pkg/artifact"
)

// randomPlans is the number of plans that the random baseline averages over.
const randomPlans = 20

// baselines returns the costs of simpler allocations that keep the same target.
func (p *planner) baselines(choices []Choice, budget int64) ([]Baseline, error) {
	uniform, widest, err := p.widestUniform(budget)
	if err != nil {
		return nil, err
	}
	random, err := p.random(budget)
	if err != nil {
		return nil, err
	}
	ends, err := p.endsKeptHigh(budget)
	if err != nil {
		return nil, err
	}
	var out []Baseline
	for _, way := range []struct {
		name, note string
		plans      [][]int
	}{
		{"uniform", widest, [][]int{uniform}},
		{"random", fmt.Sprintf("mean of %d: modules in random order get the most bits that still fit", randomPlans), random},
		{"ends kept high", "layers from both ends inwards get the most bits that still fit", [][]int{ends}},
	} {
		b := Baseline{Name: way.name, Note: way.note}
		for _, picks := range way.plans {
			size, err := p.measure(picks)
			if err != nil {
				return nil, err
			}
			cost := 0.0
			for i, k := range picks {
				cost += choices[i].Options[k].Cost
			}
			b.BPW += p.opts.Target.Figure(size.BPW) / float64(len(way.plans))
			b.Cost += cost / float64(len(way.plans))
		}
		out = append(out, b)
	}
	return out, nil
}

// widestUniform returns the widest uniform allocation that keeps the target, and what it is. Where embedding and head
// take part, they have the most bits that fit beside it.
func (p *planner) widestUniform(budget int64) (picks []int, note string, err error) {
	for o := len(p.list) - 1; o >= 0; o-- {
		for _, bits := range p.endChoices() {
			picks := p.uniform(o)
			note := optionName(p.list[o]) + " everywhere"
			if bits > 0 {
				p.setEnds(picks, bits)
				note += fmt.Sprintf(", embedding and head %d", bits)
			}
			size, err := p.measure(picks)
			if err != nil {
				return nil, "", err
			}
			if p.size(picks) <= budget && p.keeps(size) {
				return picks, note, nil
			}
		}
	}
	return p.least(), optionName(p.list[0]) + " everywhere", nil
}

// endChoices returns the widths that embedding and head can have in a uniform allocation, widest first;
// 0 alone if they take no part.
func (p *planner) endChoices() []int {
	out := p.allEndBits()
	slices.Reverse(out)
	if len(out) == 0 {
		return []int{0}
	}
	return out
}

// setEnds gives embedding and head these bits where they have them.
func (p *planner) setEnds(picks []int, bits int) {
	for i, g := range p.groups {
		if own, ok := p.ends[p.names[g.modules[0]]]; ok && !g.pinned {
			if o := slices.Index(own, bits); o >= 0 {
				picks[i] = o
			}
		}
	}
}

// optionName names what modules choose: "4 bits" or "q4_k".
func optionName(w Width) string {
	if w.Form == artifact.Palette {
		return fmt.Sprintf("%d bits", w.Bits)
	}
	return string(w.Form)
}

// random returns the random allocations.
func (p *planner) random(budget int64) ([][]int, error) {
	rng := rand.New(rand.NewPCG(uint64(p.opts.Seed), 2))
	var out [][]int
	for range randomPlans {
		picks, err := p.fill(rng.Perm(len(p.groups)), budget)
		if err != nil {
			return nil, err
		}
		out = append(out, picks)
	}
	return out, nil
}

// endsKeptHigh returns the allocation that prefers the first and the last layers.
func (p *planner) endsKeptHigh(budget int64) ([]int, error) {
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

// fill starts from the fewest bits and gives the groups, in order, the most bits that still
// fit.
func (p *planner) fill(order []int, budget int64) ([]int, error) {
	for {
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
		size, err := p.measure(picks)
		if err != nil || p.keeps(size) || left < 0 {
			return picks, err
		}
		budget -= size.FileBytes - p.opts.Target.MaxBytes
	}
}

// HeuristicPlans returns the plans of the baselines of [MakePlan], for measurements of
// what they lose: the one that keeps the ends high, and the random ones.
func HeuristicPlans(s *Scores, opts PlanOptions) (endsKeptHigh *Plan, random []*Plan, err error) {
	p, err := plannerOf(s, opts)
	if err != nil {
		return nil, nil, err
	}
	budget, err := p.budget()
	if err != nil {
		return nil, nil, err
	}
	plan := func(picks []int) *Plan {
		out := &Plan{Schema: PlanSchema, Method: s.Method, GroupRows: s.GroupRows, RowScale: s.RowScale, Target: &p.opts.Target}
		widths := p.widths(picks)
		for i, name := range projections(p.shape.Config) {
			c := p.cost(s, i, widths[name])
			l := newPlanLayer(name, widths[name])
			l.Cost = c
			out.Layers = append(out.Layers, l)
			out.Cost += c
		}
		for _, l := range p.endLayers(s, widths) {
			out.Layers = append(out.Layers, l)
			out.Cost += l.Cost
		}
		return out
	}
	ends, err := p.endsKeptHigh(budget)
	if err != nil {
		return nil, nil, err
	}
	all, err := p.random(budget)
	if err != nil {
		return nil, nil, err
	}
	for _, picks := range all {
		random = append(random, plan(picks))
	}
	return plan(ends), random, nil
}
