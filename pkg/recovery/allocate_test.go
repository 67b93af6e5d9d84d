package recovery

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// TestAllocateRanks holds the allocation to the best of all, where a rank of every module takes as many
// values, and to the budget where not.
func TestAllocateRanks(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		modules := make([]spectrum, 4)
		for i := range modules {
			modules[i].values = 10
			for range 12 {
				modules[i].gains = append(modules[i].gains, rng.ExpFloat64())
			}
			slices.SortFunc(modules[i].gains, func(a, b float64) int { return cmp.Compare(b, a) })
		}
		gain := func(ranks []int) (sum float64) {
			for i, r := range ranks {
				for _, g := range modules[i].gains[:r] {
					sum += g
				}
			}
			return sum
		}
		best := 0.0
		for a := 1; a <= 12; a++ {
			for b := 1; b <= 12; b++ {
				for c := 1; c <= 12; c++ {
					if d := 16 - a - b - c; d >= 1 && d <= 12 {
						best = max(best, gain([]int{a, b, c, d}))
					}
				}
			}
		}
		ranks := allocateRanks(modules, 4)
		if got := gain(ranks); got < best*(1-1e-12) || slices.Min(ranks) < 1 || sum(ranks) != 16 {
			t.Fatalf("ranks %v gain %v, the best %v", ranks, got, best)
		}
		modules[1].values, modules[3].values = 7, 33
		ranks = allocateRanks(modules, 4)
		used := 0
		for i, r := range ranks {
			used += r * modules[i].values
		}
		if budget := 4 * (10 + 7 + 10 + 33); used > budget || budget-used >= 33 {
			t.Fatalf("ranks %v take %d of %d values", ranks, used, budget)
		}
	}
	if got := allocateRanks([]spectrum{{5, []float64{1, 1, 1}}, {5, []float64{0, 0, 0}}}, 1); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("rank 1 is divided into %v", got)
	}
}

func sum(v []int) (n int) {
	for _, x := range v {
		n += x
	}
	return n
}

// TestRanksByLoss trains with allocated ranks: on any number of threads and after an interruption the bytes
// are the same, the adapter is no larger than with equal ranks, and its init leaves less.
func TestRanksByLoss(t *testing.T) {
	b := newBench(t)
	o := b.options(t)
	o.Ranks, o.InitTokens = []int{4}, 512
	equal := mustRun(t, newPool(t, 2), o)
	o.RankAllocation, o.Out = RanksByLoss, filepath.Join(t.TempDir(), "out")
	r := mustRun(t, newPool(t, 1), o)
	a, e := r.Adapters[0], equal.Adapters[0]
	ranks := slices.Sorted(maps.Values(a.ModuleRanks))
	if len(ranks) != 28 || ranks[0] < 1 || ranks[0] == ranks[27] || a.Params > e.Params || a.Params < e.Params*99/100 {
		t.Errorf("ranks %v, %d values; %d with equal ranks", ranks, a.Params, e.Params)
	}
	if !(*a.KLInit < *e.KLInit) {
		t.Errorf("the init leaves %v, with equal ranks %v", *a.KLInit, *e.KLInit)
	}
	c, pool := o, newPool(t, 3)
	c.Out = filepath.Join(t.TempDir(), "out")
	ctx, cancel := context.WithCancel(bg)
	c.Progress = &stopAt{Reporter: progress.Silent, steps: 2, cancel: cancel}
	if _, err := runOn(ctx, pool, c); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	c.Progress = nil
	uniform := c
	uniform.RankAllocation = RanksUniform
	_, err := runOn(bg, pool, uniform)
	wantFault(t, err, fault.Input, "--rank-allocation")
	// A damaged state is refused, and stays for who can mend it.
	state := filepath.Join(filepath.Dir(c.Out), ".out.afmq", "state", stateFile)
	saved, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Replace(saved, []byte(`\"ranks\":[[`), []byte(`\"ranks\":[[0`), 1)
	if err := os.WriteFile(state, damaged[:len(saved)], 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = runOn(bg, pool, c)
	if fault.KindOf(err) != fault.Input {
		t.Errorf("a damaged state: %v", err)
	}
	if _, err := os.Stat(state); err != nil {
		t.Fatalf("the damaged state is gone: %v", err)
	}
	if err := os.WriteFile(state, saved, 0o666); err != nil {
		t.Fatal(err)
	}
	if again := mustRun(t, pool, c); again.ResumedSteps == 0 {
		t.Error("the interrupted run began anew")
	}
	sameContents(t, contents(t, c.Out), contents(t, o.Out))
}
