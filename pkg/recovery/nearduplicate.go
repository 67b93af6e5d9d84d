package recovery

// Two texts count as near duplicates when they share many shingles, runs of shingleTokens
// token ids (Broder 1997, "On the resemblance and containment of documents"). A text in which
// one token out of sixteen is replaced keeps half of its shingles. BenchmarkSplit measures how
// many unrelated documents share.
const (
	shingleTokens = 8
	// nearShare is the share of a text's shingles, found in another, that makes the two
	// near duplicates.
	nearShare = 0.25
	// nearShingles is the least number of shingles that count as a copy of one text inside
	// a longer one. Fewer are a common phrase.
	nearShingles = 32
)

// shingleIndex finds the near duplicates of a set of texts.
type shingleIndex struct {
	texts map[uint64][]int32 // by hash of a shingle, the numbers of the texts that contain it
	sizes []int              // distinct shingles of each text
}

// add adds a text to the set.
func (x *shingleIndex) add(ids []int32) {
	if x.texts == nil {
		x.texts = map[uint64][]int32{}
	}
	number := int32(len(x.sizes))
	n := 0
	for i := 0; i+shingleTokens <= len(ids); i++ {
		h := shingleHash(ids[i:][:shingleTokens])
		if l := x.texts[h]; len(l) == 0 || l[len(l)-1] != number {
			x.texts[h] = append(l, number)
			n++
		}
	}
	x.sizes = append(x.sizes, n)
}

// near reports whether a text is a near duplicate of the set: at least nearShare of its
// shingles occur in the set as a whole, or it contains at least nearShare of the shingles of
// one text of the set, and at least nearShingles.
func (x *shingleIndex) near(ids []int32) bool {
	share, contained := x.shared(ids)
	if share >= nearShare {
		return true
	}
	for t, n := range contained {
		if n >= nearShingles && float64(n) >= nearShare*float64(x.sizes[t]) {
			return true
		}
	}
	return false
}

// shared returns the share of a text's shingles that occur in the set, and how many distinct
// shingles of each text of the set, by its number, occur in it.
func (x *shingleIndex) shared(ids []int32) (share float64, contained map[int32]int) {
	total := len(ids) - shingleTokens + 1
	if total < 1 {
		return 0, nil
	}
	n := 0
	seen := map[uint64]bool{}
	contained = map[int32]int{}
	for i := range total {
		h := shingleHash(ids[i:][:shingleTokens])
		texts := x.texts[h]
		if len(texts) == 0 {
			continue
		}
		n++
		if seen[h] {
			continue
		}
		seen[h] = true
		for _, t := range texts {
			contained[t]++
		}
	}
	return float64(n) / float64(total), contained
}

// shingleHash returns the FNV-1a hash of the ids, with whole ids in place of bytes.
func shingleHash(ids []int32) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, id := range ids {
		h = (h ^ uint64(uint32(id))) * prime
	}
	return h ^ h>>29
}
