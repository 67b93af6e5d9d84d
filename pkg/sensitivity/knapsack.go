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
	Bits int     // width of an index
	Size int64   // share of the budget, in any one unit; not negative
	Cost float64 // loss of the model, finite; noise may make it negative
}

// Choice is a module, or several that must have equal bits, with its options.
type Choice struct {
	Name    string
	Options []Option // at least one, in any order
}

// Allocation selects one option of every choice.
type Allocation struct {
	Picks []int // index of the selected option, by choice
	Size  int64
	Cost  float64
	// LowerBound is a lower bound of the cost of every allocation within the budget: Cost
	// itself if the search was completed, else the optimum of the relaxed problem.
	LowerBound float64
	Optimal    bool // proven: the search was completed
}

// maxStates bounds the partial allocations that a search stores, about 250 MB. A few
// hundred modules of real models need a few thousand. Tests lower it.
var maxStates = 4 << 20

// Allocate solves the multiple-choice knapsack problem: one option of every choice with
// the least summed cost such that the summed size is at most budget.
//
// The relaxed problem, in which a choice may be split between two options, is solved by
// taking the steps of the lower convex hull of each choice in the order of their gain per
// size (Sinha and Zoltners, "The multiple-choice knapsack problem", Operations Research
// 27, 1979). Its Lagrange multiplier assigns every option a price, cost + λ·size. The loss
// of an option is its price minus the lowest price of its choice. Losses add up over
// choices, and the total loss of an optimum is at most the cost of any feasible allocation
// minus the relaxed optimum. This leaves few options, which dynamic programming over the
// undominated pairs of size and cost searches completely. Among equal optima the result is
// one of the smallest, and always the same.
//
// It returns an error of kind fault.Infeasible, with the least size, if the smallest
// options exceed the budget.
func Allocate(choices []Choice, budget int64) (*Allocation, error) {
	p, err := newProblem(choices, budget)
	if err != nil {
		return nil, err
	}
	return p.search(choices), nil
}

// newProblem checks the choices and solves the relaxed problem.
func newProblem(choices []Choice, budget int64) (*problem, error) {
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
		return nil, fault.Infeasiblef("the smallest options have a total size of %d, which exceeds the budget of %d", least, budget)
	}
	p.relax()
	return p, nil
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

// pricedOption is an option with its index in the caller's list and its loss.
type pricedOption struct {
	Option
	index int
	loss  float64 // price, cost + λ·size, above the lowest price of the choice
}

// undominated returns the options that cost less than every option of at most their size,
// by increasing size and thus decreasing cost.
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

// problem is a knapsack problem with the solution of its relaxation.
type problem struct {
	budget  int64
	choices [][]pricedOption
	bound   float64 // cost of the relaxed optimum
	upper   float64 // cost of the greedy allocation, which is feasible
	greedy  []int   // that allocation, by position in choices
	// rounding bounds the rounding error of a sum of losses, each a small difference of
	// large prices. The search adds it to the loss that it admits.
	rounding float64
}

// hullStep is an edge of the lower convex hull of a choice.
type hullStep struct {
	choice, to int
	size       int64
	gain       float64 // cost saved per size
}

// relax solves the relaxed problem, computes the losses of all options from its multiplier,
// and keeps the greedy allocation that it yields.
func (p *problem) relax() {
	left := p.budget
	p.greedy = make([]int, len(p.choices))
	for _, c := range p.choices {
		left -= c[0].Size
		p.bound += c[0].Cost
	}
	lambda := 0.0 // size has no price if every step fits
	whole := true // all steps so far fitted
	stuck := make([]bool, len(p.choices))
	for _, s := range p.hullSteps() {
		if whole && s.size > left {
			lambda, whole = s.gain, false
			p.bound -= s.gain * float64(left)
		}
		if s.size > left || stuck[s.choice] {
			stuck[s.choice] = true // a step starts where the one before it ends
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

// hullSteps returns the edges of the hulls of all choices, by decreasing gain.
func (p *problem) hullSteps() []hullStep {
	var steps []hullStep
	for i, c := range p.choices {
		for at := 0; at < len(c)-1; {
			best, gain := 0, 0.0
			for k := at + 1; k < len(c); k++ {
				if g := (c[at].Cost - c[k].Cost) / float64(c[k].Size-c[at].Size); g >= gain {
					best, gain = k, g
				}
			}
			steps = append(steps, hullStep{i, best, c[best].Size - c[at].Size, gain})
			at = best
		}
	}
	slices.SortStableFunc(steps, func(a, b hullStep) int { return cmp.Compare(b.gain, a.gain) })
	return steps
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
