package sensitivity

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"afmq/pkg/fault"
)

// brute tries every allocation.
func brute(choices []Choice, budget int64) (best float64, feasible bool) {
	best = math.Inf(1)
	var try func(i int, size int64, cost float64)
	try = func(i int, size int64, cost float64) {
		if size > budget {
			return
		}
		if i == len(choices) {
			feasible = true
			best = min(best, cost)
			return
		}
		for _, o := range choices[i].Options {
			try(i+1, size+o.Size, cost+o.Cost)
		}
	}
	try(0, 0, 0)
	return best, feasible
}

// hold checks an allocation against the definitions.
func hold(t *testing.T, choices []Choice, budget int64, a *Allocation) {
	t.Helper()
	size, cost := int64(0), 0.0
	for i, k := range a.Picks {
		size += choices[i].Options[k].Size
		cost += choices[i].Options[k].Cost
	}
	if len(a.Picks) != len(choices) || size != a.Size || cost != a.Cost || size > budget || a.LowerBound > a.Cost+1e-9 {
		t.Fatalf("budget %d: size %d, cost %v: %+v", budget, size, cost, a)
	}
}

// The optimum is the least cost of all allocations, on every kind of instance:
// costs that fall with size or not, equal sizes, equal costs, huge and tiny costs.
func TestAllocateAgreesWithBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 3000 {
		choices := make([]Choice, 1+r.IntN(7))
		kind := n % 5
		total := int64(0)
		for i := range choices {
			choices[i].Name = fmt.Sprint(i)
			largest := int64(0)
			for b := range 1 + r.IntN(4) {
				o := Option{Bits: b + 1, Size: int64(1 + r.IntN(20)), Cost: r.Float64()}
				switch kind {
				case 1: // as real ones: equal modules, cost falls fourfold a bit
					o.Size, o.Cost = int64(b+1)*16, math.Pow(4, -float64(b))*(0.5+r.Float64())
				case 2:
					o.Size, o.Cost = int64(r.IntN(3)), float64(r.IntN(3))
				case 3:
					o.Cost = math.Pow(10, 12*r.Float64()-9)
				case 4:
					o.Cost = r.NormFloat64()
				}
				choices[i].Options = append(choices[i].Options, o)
				largest = max(largest, o.Size)
			}
			total += largest
		}
		budget := r.Int64N(total + 2)
		want, feasible := brute(choices, budget)
		a, err := Allocate(choices, budget)
		if !feasible {
			if fault.KindOf(err) != fault.Infeasible {
				t.Fatalf("instance %d, nothing fits: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		hold(t, choices, budget, a)
		if !a.Optimal || a.Cost > want+1e-12*math.Abs(want)+1e-15 {
			t.Fatalf("instance %d: cost %v, the best has %v", n, a.Cost, want)
		}
	}
}

// realistic is a model of so many modules: seven a layer, of four sizes, costs that
// differ by orders of magnitude.
func realistic(modules int, widths []int, seed uint64) (choices []Choice, weights int64) {
	r := rand.New(rand.NewPCG(seed, 3))
	sizes := []int64{3072 * 3072, 1024 * 3072, 1024 * 3072, 3072 * 3072, 8192 * 3072, 8192 * 3072, 8192 * 3072}
	for i := range modules {
		n := sizes[i%len(sizes)]
		weights += n
		c := Choice{Name: fmt.Sprint(i)}
		sensitivity := math.Exp(1.5 * r.NormFloat64())
		for _, b := range widths {
			c.Options = append(c.Options, Option{b, n*int64(b) + n/3072/16*16<<b, sensitivity * math.Pow(3.7, -float64(b)) * (0.9 + 0.2*r.Float64())})
		}
		choices = append(choices, c)
	}
	return choices, weights
}

// A few hundred modules are solved to the end, and no single change or exchange of
// two modules improves the result.
func TestAllocateIsLocallyOptimal(t *testing.T) {
	for seed := range uint64(6) {
		choices, weights := realistic(300, []int{2, 3, 4, 6, 8}, seed)
		budget := weights * int64(26+5*seed) / 10
		a, err := Allocate(choices, budget)
		if err != nil {
			t.Fatal(err)
		}
		hold(t, choices, budget, a)
		if !a.Optimal {
			t.Errorf("seed %d: not proven", seed)
		}
		for i := range choices {
			for k, o := range choices[i].Options {
				was := choices[i].Options[a.Picks[i]]
				size, cost := a.Size-was.Size+o.Size, o.Cost-was.Cost
				if size <= budget && cost < -1e-12 {
					t.Fatalf("seed %d: module %d is better at option %d", seed, i, k)
				}
				for j := range i {
					for _, p := range choices[j].Options {
						w := choices[j].Options[a.Picks[j]]
						if size-w.Size+p.Size <= budget && cost+p.Cost-w.Cost < -1e-12 {
							t.Fatalf("seed %d: modules %d and %d are better otherwise", seed, i, j)
						}
					}
				}
			}
		}
	}
}

// A larger budget never costs more.
func TestAllocateIsMonotone(t *testing.T) {
	choices, weights := realistic(70, []int{2, 4}, 9)
	last := math.Inf(1)
	for tenth := int64(21); tenth <= 42; tenth++ {
		a, err := Allocate(choices, weights*tenth/10)
		if err != nil {
			t.Fatal(err)
		}
		if a.Cost > last {
			t.Errorf("%v bits cost %v, less cost %v", float64(tenth)/10, a.Cost, last)
		}
		last = a.Cost
	}
}

func TestAllocateRefuses(t *testing.T) {
	for name, choices := range map[string][]Choice{
		"no options":   {{Name: "m"}},
		"not a number": {{Name: "m", Options: []Option{{2, 1, math.NaN()}}}},
		"infinite":     {{Name: "m", Options: []Option{{2, 1, math.Inf(1)}}}},
		"negative":     {{Name: "m", Options: []Option{{2, -1, 1}}}},
		"overflow":     {{Name: "m", Options: []Option{{2, math.MaxInt64, 1}}}, {Name: "n", Options: []Option{{2, math.MaxInt64, 1}}}},
	} {
		if _, err := Allocate(choices, math.MaxInt64); err == nil || fault.KindOf(err) == fault.Infeasible {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a, err := Allocate(nil, 0); err != nil || a.Cost != 0 || !a.Optimal {
		t.Errorf("nothing to allocate: %+v, %v", a, err)
	}
}

func BenchmarkAllocate(b *testing.B) {
	choices, weights := realistic(182, []int{2, 3, 4}, 1)
	for b.Loop() {
		if _, err := Allocate(choices, weights*35/10); err != nil {
			b.Fatal(err)
		}
	}
}
