package eval

import (
	"slices"
	"testing"
)

// The model writes the same texts for the same seed on any number of threads,
// and they are ones it finds likely: its perplexity on them is far below that on
// the same tokens in another order.
func TestSampleTexts(t *testing.T) {
	var first []string
	for _, threads := range []int{1, 3} {
		pool := newPool(t, threads)
		m := openTiny(t, pool)
		texts, err := m.SampleTexts(bg, pool, 6, 64, 3, nil)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = texts
			corpus := encodeTexts(t, m, texts...)
			own, err := Score(bg, m, corpus, ScoreOptions{Ctx: 64, Pool: pool})
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(corpus.IDs)
			sorted, err := Score(bg, m, corpus, ScoreOptions{Ctx: 64, Pool: pool})
			if err != nil {
				t.Fatal(err)
			}
			if !(own.Perplexity < 200 && own.Perplexity < sorted.Perplexity/3) {
				t.Errorf("perplexity %v on its own texts, %v on sorted tokens", own.Perplexity, sorted.Perplexity)
			}
			others, err := m.SampleTexts(bg, pool, 6, 64, 4, nil)
			if err != nil || slices.Equal(others, texts) {
				t.Errorf("another seed gives the same texts (%v)", err)
			}
		} else if !slices.Equal(texts, first) {
			t.Error("three threads write other texts than one")
		}
	}
}
