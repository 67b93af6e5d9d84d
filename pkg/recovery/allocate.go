package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"

	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// RankAllocation is how an adapter's rank is divided among its modules.
type RankAllocation string

const (
	// RanksUniform gives every module the rank of the adapter.
	RanksUniform RankAllocation = "uniform"
	// RanksByLoss gives a module more or less than the adapter's rank, with as many values in all: the
	// ranks whose best approximations of W−Ŵ together lower the divergence most, to second order.
	RanksByLoss RankAllocation = "loss"
)

const (
	// A module gets at least the adapter's rank over leastRanks, since training gains in every module,
	// and at most mostRanks times the rank.
	leastRanks, mostRanks = 4, 8
)

// spectrum is what every rank of a module gains.
type spectrum struct {
	values int       // of a rank: out + in
	gains  []float64 // of the first rank, the second, …, descending
}

// allocateRanks returns the rank of every module for an adapter of rank: the sum of the gains is the
// largest with which the adapter has at most the values of one with that rank everywhere. As gains
// descend, taking the largest gain for each value until none fits finds it, but for the last ranks.
func allocateRanks(modules []spectrum, rank int) []int {
	ranks, left := make([]int, len(modules)), 0
	limit := func(i int) int { return min(len(modules[i].gains), mostRanks*rank) }
	for i, m := range modules {
		ranks[i] = min(max(rank/leastRanks, 1), limit(i))
		left += (rank - ranks[i]) * m.values
	}
	for {
		best, most := -1, 0.0
		for i, m := range modules {
			if ranks[i] == limit(i) || m.values > left {
				continue
			}
			if g := m.gains[ranks[i]] / float64(m.values); best < 0 || g > most {
				best, most = i, g
			}
		}
		if best < 0 {
			return ranks
		}
		ranks[best]++
		left -= modules[best].values
	}
}

// spectra returns the gain of every rank of every module. It makes an init of which only the singular
// values are kept.
func (t *trainer) spectra(ctx context.Context) (all []spectrum, err error) {
	defer compute.Recover(&err)
	most := 0
	for _, s := range t.adapters {
		most = max(most, s.rank)
	}
	z := &initializer{pool: t.pool, base: t.base, teacher: t.teacher.Model(), opts: t.opts, students: t.adapters, name: StageAllocate}
	text := t.initText()
	if z.outputs, err = t.outputMoments(ctx, text); err != nil {
		return nil, err
	}
	z.spectrum = func(at int, weighted []float32, gradient float64) {
		shape := t.adapters[0].parts[at].spec.Shape
		out, in := shape[0], shape[1]
		rng := rand.New(rand.NewPCG(uint64(t.opts.Seed), 1<<32+uint64(at)))
		_, s, _ := truncatedSVD(t.pool, weighted, out, in, min(out, in, mostRanks*most), rng)
		m := spectrum{values: out + in}
		for _, v := range s {
			m.gains = append(m.gains, v*v*gradient)
		}
		all = append(all, m)
	}
	return all, z.run(ctx, text, true)
}

// allocate returns the ranks of every student's modules: as an interrupted run saved them, or anew.
func (r *run) allocate(ctx context.Context, t *trainer) (ranks [][]int, err error) {
	if ranks, err = t.savedRanks(); err != nil || ranks != nil {
		return ranks, err
	}
	modules, err := t.spectra(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range t.adapters {
		ranks = append(ranks, allocateRanks(modules, s.rank))
	}
	return ranks, nil
}

// setRanks replaces the students by ones with these ranks.
func (r *run) setRanks(ranks [][]int) {
	for i, s := range r.students {
		c := *s.config
		c.Ranks = map[string]int{}
		for k, p := range s.parts {
			if rank := ranks[i][k]; rank != c.Rank {
				c.Ranks[p.name] = rank
			}
		}
		r.configs[i], r.students[i] = &c, newStudent(r.pool, r.base.Config, &c)
	}
}

// savedRanks returns the ranks in the saved state of an interrupted run; nil without one. The digest of
// the state, which covers them, is checked when it is restored.
func (t *trainer) savedRanks() ([][]int, error) {
	path := t.dir.StatePath(stateFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var state trainingState
	if err := json.Unmarshal([]byte(f.Metadata()[stateKey]), &state); err != nil {
		return nil, fault.Inputf(path, "its metadata cannot be read: %v", err).
			WithHint("--restart discards the state of the interrupted run")
	}
	sound := len(state.Ranks) == len(t.adapters)
	for i := 0; sound && i < len(t.adapters); i++ {
		parts := t.adapters[i].parts
		sound = len(state.Ranks[i]) == len(parts)
		for k := 0; sound && k < len(parts); k++ {
			shape := parts[k].spec.Shape
			sound = state.Ranks[i][k] >= 1 && state.Ranks[i][k] <= min(shape[0], shape[1])
		}
	}
	if !sound {
		return nil, fault.Inputf(path, "its metadata has no ranks for the modules of this run").
			WithHint("--restart discards the state of the interrupted run")
	}
	return state.Ranks, nil
}

// moduleRanks returns the rank of every module of an adapter whose ranks were allocated; nil of another.
func (o *Options) moduleRanks(c *adapter.Config) map[string]int {
	if o.RankAllocation != RanksByLoss {
		return nil
	}
	ranks := map[string]int{}
	for _, m := range c.Modules {
		ranks[m] = c.RankOf(m)
	}
	return ranks
}
