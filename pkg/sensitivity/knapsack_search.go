package sensitivity

import (
	"cmp"
	"slices"
)

// state is a partial allocation, of the choices processed so far, as a linked list.
type state struct {
	size       int64
	cost, loss float64
	from       int32 // index of the preceding state in the preceding layer
	pick       int32 // position in the options of the choice
}

// search finds the optimum among the allocations whose loss the relaxed bound admits.
func (p *problem) search(choices []Choice) *Allocation {
	slack := p.upper - p.bound + p.rounding
	order := p.order(slack)
	rest := make([]int64, len(order)+1) // least size of the choices that follow
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
	// The states of the last layer have increasing size and decreasing cost.
	last := layers[len(order)]
	if len(last) == 0 {
		return p.allocation(choices, p.greedy, false) // only rounding can remove the greedy allocation
	}
	picks := make([]int, len(p.choices))
	at := int32(len(last) - 1)
	for i := len(order) - 1; i >= 0; i-- {
		s := layers[i+1][at]
		picks[order[i]], at = int(s.pick), s.from
	}
	return p.allocation(choices, picks, true)
}

// order returns the choices by the number of options that the slack admits. Choices that
// are decided come first, where they multiply no states.
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

// extend combines every state with every option of the next choice, and drops what exceeds
// the budget or the slack or is dominated.
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
