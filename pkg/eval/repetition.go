package eval

import (
	"slices"

	"afmq/pkg/artifact"
)

// Repetition is the share of a text, 0 to 1, that repeats earlier text of it: of the runs of
// n token ids that start at any position, those that occurred before, further back than a
// run's length. Statistics over the windows of a text count its parts as new evidence, so
// their intervals are too narrow on a text that repeats itself.
type Repetition struct {
	// Passages has runs of [artifact.PassageTokens] ids: copies of documents. It is near 0
	// for running text, and a half for a text that lists every document twice.
	Passages float64
	// Phrases has runs of as many ids as encode PhraseBytes bytes on average: copies whose
	// lines are in another order, or that differ in a word here and there.
	Phrases float64
}

// PhraseBytes is the mean length of a run for [Repetition.Phrases], in UTF-8 bytes. A run has
// 8 ids or more. A fixed number of ids would be a few letters for a small vocabulary.
const PhraseBytes = 32

// Repetition measures how much of the text repeats itself.
func (c *Corpus) Repetition() Repetition {
	return Repetition{Passages: repeated(c.IDs, artifact.PassageTokens), Phrases: repeated(c.IDs, c.phraseTokens())}
}

// phraseTokens returns the length of a run for [Repetition.Phrases], in ids.
func (c *Corpus) phraseTokens() int {
	const least = 8
	total := 0
	for _, n := range c.Bytes {
		total += int(n)
	}
	if total == 0 {
		return least
	}
	return max(least, (PhraseBytes*len(c.IDs)+total-1)/total)
}

// repeated returns the share of runs of n ids that occurred before.
func repeated(ids []int32, n int) float64 {
	runs := len(ids) - n + 1
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
	for i, id := range ids {
		if i >= n {
			h -= uint64(ids[i-n]+1) * lead
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
	again, first := 0, 0
	for i := range all {
		if all[i].hash != all[first].hash {
			first = i
		}
		if int(all[i].at-all[first].at) >= n {
			again++
		}
	}
	return float64(again) / float64(runs)
}
