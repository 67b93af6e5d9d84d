package recovery

// A text contains a partial copy of another when the two share copiedRuns distinct runs of
// runTokens token ids. Runs of that length are not shared by chance. The criterion finds the
// passage that a long text repeats at another offset, which may be a small share of a block.
const (
	runTokens  = 24
	copiedRuns = 8
	// A run that occurs in more units than commonUnits, and in more than one of
	// commonShare, is a template, such as a license or a prompt, and does not count.
	commonUnits = 16
	commonShare = 16
)

// runIndex finds texts that contain a partial copy of a set of units.
type runIndex map[uint64]struct{} // hashes of the runs that count

// newRunIndex returns the index of the held units. all are the distinct units of the text, the
// held ones included: they decide which runs are common.
func newRunIndex(held, all [][]int32) runIndex {
	occurs := map[uint64]int{} // units that contain each run of the held units
	for _, ids := range held {
		eachRun(ids, func(h uint64) { occurs[h] = 0 })
	}
	for _, ids := range all {
		seen := map[uint64]bool{}
		eachRun(ids, func(h uint64) {
			if n, ok := occurs[h]; ok && !seen[h] {
				seen[h], occurs[h] = true, n+1
			}
		})
	}
	x := runIndex{}
	for h, n := range occurs {
		if n <= max(commonUnits, len(all)/commonShare) {
			x[h] = struct{}{}
		}
	}
	return x
}

// copied reports whether a text contains a partial copy of the set.
func (x runIndex) copied(ids []int32) bool {
	shared := map[uint64]bool{}
	eachRun(ids, func(h uint64) {
		if _, ok := x[h]; ok {
			shared[h] = true
		}
	})
	return len(shared) >= copiedRuns
}

// eachRun calls f with the hash of every run of a text.
func eachRun(ids []int32, f func(hash uint64)) {
	for i := range len(ids) - runTokens + 1 {
		f(shingleHash(ids[i:][:runTokens]))
	}
}
