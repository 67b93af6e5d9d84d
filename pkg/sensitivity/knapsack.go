package sensitivity

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"afmq/pkg/fault"
)

// Option is one way to store a module.
type Option struct {
	Bits int     // of an index
	Size int64   // what it takes of the budget, in any one unit; not negative
	Cost float64 // what the model loses by it, finite; may be negative where noise made it so
}

// Choice is a module, or several that must have equal bits, with its options.
type Choice struct {
	Name    string
	Options []Option // at least one, in any order
}

// Allocation picks one option of every choice.
type Allocation struct {
	Picks []int // index of the picked option, by choice
	Size  int64
	Cost  float64
	// LowerBound is what no allocation within the budget can cost less than: Cost
	// itself where the search ended, else the bound of the relaxed problem.
	LowerBound float64
	Optimal    bool // proven: the search was not cut short
}

// maxStates bounds the partial allocations that the search keeps, some 100 MB. A few
// hundred modules of real models need some thousand.
const maxStates = 4 << 20

// Allocate solves the multiple-choice knapsack problem: one option of every choice,
// summed size at most budget, least summed cost.
//
// The relaxed problem, in which a choice may be split between two options, is
// solved by taking the steps of each choice's lower convex hull in the order of
// their gain per size (Sinha and Zoltners, "The multiple-choice knapsack problem",
// Operations Research 27, 1979). Its multiplier prices every option; what an option
// is dearer than the cheapest of its choice is a loss that adds up over choices, and
// no optimum loses more in all than a feasible allocation exceeds the bound by. So
// only few options remain to be searched, by dynamic programming over the
// undominated pairs of size and cost. Of equal optima the smaller is returned, and
// of those always the same.
//
// A budget that even the smallest options exceed is an error of kind
// fault.Infeasible that says what is reachable.
func Allocate(choices []Choice, budget int64) (*Allocation, error) {
	p := &problem{budget: budget, choices: make([][]pricedOption, len(choices))}
	least, most := int64(0), int64(0)
	for i, c := range choices {
		if err := c.check(); err != nil {
			return nil, err
		}
		p.choices[i] = undominated(c.Options)
		first, last := p.choices[i][0], p.choices[i][len(p.choices[i])-1]
		if least > math.MaxInt64-last.Size || most > math.MaxInt64-last.Size {
			return nil, fmt.Errorf("sensitivity: %s: the sizes overflow", c.Name)
		}
		least += first.Size
		most += last.Size
	}
	if least > budget {
		return nil, fault.Infeasiblef("the smallest options together have a size of %d, the limit is %d", least, budget)
	}
	p.relax()
	return p.search(choices), nil
}

func (c *Choice) check() error {
	if len(c.Options) == 0 {
		return fmt.Errorf("sensitivity: %s has no options", c.Name)
	}
	for _, o := range c.Options {
		if o.Size < 0 || math.IsNaN(o.Cost) || math.IsInf(o.Cost, 0) {
			return fmt.Errorf("sensitivity: %s at %d bits has size %d and cost %v", c.Name, o.Bits, o.Size, o.Cost)
		}
	}
	return nil
}

// pricedOption is an option with its place in the caller's list and its loss.
type pricedOption struct {
	Option
	index int
	loss  float64 // cost + λ·size, over the least of the choice
}

// undominated returns the options that are cheaper than all that are not larger,
// by rising size, and so by falling cost.
func undominated(options []Option) []pricedOption {
	all := make([]pricedOption, len(options))
	for i, o := range options {
		all[i] = pricedOption{Option: o, index: i}
	}
	slices.SortStableFunc(all, func(a, b pricedOption) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Cost, b.Cost))
	})
	out := all[:1]
	for _, o := range all[1:] {
		if o.Cost < out[len(out)-1].Cost {
			out = append(out, o)
		}
	}
	return out
}

type problem struct {
	budget  int64
	choices [][]pricedOption
	bound   float64 // cost of the relaxed optimum
	upper   float64 // cost of a feasible allocation
	greedy  []int   // that allocation, by position in choices
	// rounding bounds the error of a sum of losses, each a small difference of large
	// prices: a margin for what the search may not drop.
	rounding float64
}

// step is the way from one point of a choice's hull to the next.
type step struct {
	choice, to int
	size       int64
	gain       float64 // cost saved per size
}

// relax solves the relaxed problem, prices the options with its multiplier, and
// keeps the feasible allocation that comes with it.
func (p *problem) relax() {
	steps := p.steps()
	left := p.budget
	p.greedy = make([]int, len(p.choices))
	for _, c := range p.choices {
		left -= c[0].Size
		p.bound += c[0].Cost
	}
	lambda := 0.0 // with room for everything, size has no price
	whole := true // no step was left out yet
	stuck := make([]bool, len(p.choices))
	for _, s := range steps {
		if whole && s.size > left {
			lambda, whole = s.gain, false
			p.bound -= s.gain * float64(left)
		}
		if s.size > left || stuck[s.choice] {
			stuck[s.choice] = true // the steps of a choice build on one another
			continue
		}
		left -= s.size
		p.greedy[s.choice] = s.to
		if whole {
			p.bound -= s.gain * float64(s.size)
		}
	}
	for i, c := range p.choices {
		p.upper += c[p.greedy[i]].Cost
		least, largest := math.Inf(1), 0.0
		for _, o := range c {
			least = min(least, o.Cost+lambda*float64(o.Size))
			largest = max(largest, math.Abs(o.Cost)+lambda*float64(o.Size))
		}
		p.rounding += 1e-12 * largest
		for k := range c {
			c[k].loss = c[k].Cost + lambda*float64(c[k].Size) - least
		}
	}
}

// steps returns the steps of all hulls, by falling gain.
func (p *problem) steps() []step {
	var steps []step
	for i, c := range p.choices {
		for at := 0; at < len(c)-1; {
			best, gain := 0, 0.0
			for k := at + 1; k < len(c); k++ {
				if g := (c[at].Cost - c[k].Cost) / float64(c[k].Size-c[at].Size); g >= gain {
					best, gain = k, g
				}
			}
			steps = append(steps, step{i, best, c[best].Size - c[at].Size, gain})
			at = best
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(b.gain, a.gain) })
	return steps
}

// state is an allocation of the choices so far, as a chain.
type state struct {
	size       int64
	cost, loss float64
	from       int32 // index of the state before, in the layer before
	pick       int32 // position in the choice's options
}

// search finds the optimum among the allocations that lose no more than allowed.
func (p *problem) search(choices []Choice) *Allocation {
	slack := p.upper - p.bound + p.rounding
	order := p.order(slack)
	rest := make([]int64, len(order)+1) // the least size of the choices still open
	for i := len(order) - 1; i >= 0; i-- {
		rest[i] = rest[i+1] + p.choices[order[i]][0].Size
	}
	layers := make([][]state, 1, len(order)+1)
	layers[0] = []state{{}}
	total := 1
	for i, c := range order {
		next := p.extend(layers[i], p.choices[c], slack, rest[i+1])
		layers = append(layers, next)
		if total += len(next); total > maxStates {
			return p.allocation(choices, p.greedy, false)
		}
	}
	// The states of the last layer have rising size and falling cost.
	last := layers[len(order)]
	if len(last) == 0 {
		return p.allocation(choices, p.greedy, false) // only rounding can keep it out
	}
	picks := make([]int, len(p.choices))
	at := int32(len(last) - 1)
	for i := len(order) - 1; i >= 0; i-- {
		s := layers[i+1][at]
		picks[order[i]], at = int(s.pick), s.from
	}
	return p.allocation(choices, picks, true)
}

// order returns the choices by how many of their options are still possible, so
// that the many that are decided do not multiply states.
func (p *problem) order(slack float64) []int {
	open := make([]int, len(p.choices))
	for i, c := range p.choices {
		for _, o := range c {
			if o.loss <= slack {
				open[i]++
			}
		}
	}
	order := make([]int, len(p.choices))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(open[a], open[b]) })
	return order
}

// extend adds a choice to every state and drops what is too large, loses too much
// or is dominated.
func (p *problem) extend(layer []state, options []pricedOption, slack float64, rest int64) []state {
	var next []state
	for i, s := range layer {
		for k, o := range options {
			n := state{s.size + o.Size, s.cost + o.Cost, s.loss + o.loss, int32(i), int32(k)}
			if n.loss <= slack && n.size <= p.budget-rest {
				next = append(next, n)
			}
		}
	}
	slices.SortStableFunc(next, func(a, b state) int {
		return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.cost, b.cost))
	})
	kept := next[:0]
	for _, s := range next {
		if len(kept) == 0 || s.cost < kept[len(kept)-1].cost {
			kept = append(kept, s)
		}
	}
	return slices.Clone(kept)
}

// allocation reports picks, given by position in the undominated options.
func (p *problem) allocation(choices []Choice, picks []int, optimal bool) *Allocation {
	a := &Allocation{Picks: make([]int, len(picks)), LowerBound: p.bound, Optimal: optimal}
	for i, k := range picks {
		a.Picks[i] = p.choices[i][k].index
		a.Size += choices[i].Options[a.Picks[i]].Size
		a.Cost += choices[i].Options[a.Picks[i]].Cost
	}
	if optimal {
		a.LowerBound = a.Cost
	}
	return a
}
