package eval

import (
	"slices"

	"afmq/pkg/artifact"
)

// Repetition returns the share of a text, 0 to 1, that repeats earlier text of it: of the runs
// of [artifact.PassageTokens] token ids that start at any position, those that occurred
// before, further back than a run's length. Running text has about 0, a text whose documents
// are all listed twice has about a half. Statistics over the windows of a text take its
// parts for new evidence, so they are too sure of themselves on a text that repeats itself.
func (c *Corpus) Repetition() float64 {
	const n = artifact.PassageTokens
	runs := len(c.IDs) - n + 1
	if runs < 1 {
		return 0
	}
	// A polynomial hash of every run, updated from the one before; sorting pairs of hash and
	// position finds the runs that occur more than once.
	const base = 0x9e3779b97f4a7c15 | 1
	lead := uint64(1) // base^(n-1)
	for range n - 1 {
		lead *= base
	}
	type run struct {
		hash uint64
		at   int32
	}
	all := make([]run, runs)
	var h uint64
	for i, id := range c.IDs {
		if i >= n {
			h -= uint64(c.IDs[i-n]+1) * lead
		}
		h = h*base + uint64(id+1)
		if i >= n-1 {
			all[i-n+1] = run{h, int32(i - n + 1)}
		}
	}
	slices.SortFunc(all, func(a, b run) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return int(a.at - b.at)
	})
	repeated, first := 0, 0
	for i := range all {
		if all[i].hash != all[first].hash {
			first = i
		}
		if all[i].at-all[first].at >= n {
			repeated++
		}
	}
	return float64(repeated) / float64(runs)
}
