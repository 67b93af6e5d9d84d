package eval

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"afmq/pkg/artifact"
)

// A text that lists its parts again is found, at whatever offset they come; running text and
// a few common phrases are not. The figure is that of a count by brute force.
func TestRepetition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(rng.IntN(50))
		}
		return ids
	}
	a, b := text(700), text(333)
	zeros := make([]int32, 300)
	for name, c := range map[string]struct {
		ids  []int32
		want float64
	}{
		"nothing":       {nil, 0},
		"short":         {a[:10], 0},
		"new":           {a, 0},
		"twice":         {slices.Concat(a, a), 677.0 / 1377},
		"with a gap":    {slices.Concat(a, b, a), 677.0 / 1710},
		"ten times":     {slices.Concat(b, b, b, b, b, b, b, b, b, b), 1 - 333.0/3307},
		"one token":     {zeros, 1 - 24.0/277},
		"common phrase": {slices.Concat(a, a[100:110], b, a[100:110]), 0},
	} {
		bytes := make([]int32, len(c.ids))
		for i := range bytes {
			bytes[i] = 2 + int32(i%2) // a run of 13 ids has 32.5 bytes on average
		}
		got := (&Corpus{IDs: c.ids, Bytes: bytes}).Repetition()
		passages, phrases := slowRepetition(c.ids, artifact.PassageTokens), slowRepetition(c.ids, 13)
		if math.Abs(got.Passages-c.want) > 1e-12 || math.Abs(got.Passages-passages) > 1e-12 || math.Abs(got.Phrases-phrases) > 1e-12 {
			t.Errorf("%s: %+v, want %v of passages; by brute force %v and %v", name, got, c.want, passages, phrases)
		}
	}
}

// A phrase has 32 bytes on average, and 8 ids or more.
func TestPhraseTokens(t *testing.T) {
	for _, c := range []struct{ perID, want int }{{0, 8}, {1, 32}, {2, 16}, {3, 11}, {4, 8}, {9, 8}} {
		corpus := &Corpus{IDs: make([]int32, 100), Bytes: make([]int32, 100)}
		for i := range corpus.Bytes {
			corpus.Bytes[i] = int32(c.perID)
		}
		if got := corpus.phraseTokens(); got != c.want {
			t.Errorf("%d bytes in a token: %d ids; want %d", c.perID, got, c.want)
		}
	}
}

func slowRepetition(ids []int32, n int) float64 {
	repeated, runs := 0, 0
	for i := 0; i+n <= len(ids); i++ {
		runs++
		for j := 0; j+n <= i; j++ {
			if slices.Equal(ids[i:i+n], ids[j:j+n]) {
				repeated++
				break
			}
		}
	}
	return float64(repeated) / float64(max(runs, 1))
}
