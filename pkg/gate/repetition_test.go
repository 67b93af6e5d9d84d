package gate

import (
	"math/rand/v2"
	"strings"
	"testing"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// Copies are refused whether they are exact, have their lines in another order, or have words
// inserted; text in which a phrase recurs now and then is not.
func TestCheckRepetition(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	const copies, words, line = 6, 3000, 12
	document := make([]int32, words)
	for i := range document {
		document[i] = int32(rng.IntN(2000))
	}
	var exact, shuffled, filled, running []int32
	for k := range copies {
		exact = append(exact, document...)
		for _, l := range rng.Perm(words / line) {
			shuffled = append(shuffled, document[l*line:(l+1)*line]...)
		}
		for i, id := range document {
			if filled = append(filled, id); i%line == k {
				filled = append(filled, int32(2000+k))
			}
		}
		for i := range words {
			if i%100 == 0 {
				running = append(running, document[:line]...)
			}
			running = append(running, int32(rng.IntN(2000)))
		}
	}
	for name, c := range map[string]struct {
		ids  []int32
		want string // in the message; empty for no error
	}{
		"exact":    {exact, "of its passages occur earlier"},
		"shuffled": {shuffled, "of its phrases of 32 bytes occur earlier"},
		"filled":   {filled, "of its phrases of 32 bytes occur earlier"},
		"running":  {running, ""},
	} {
		corpus := &eval.Corpus{IDs: c.ids, Bytes: make([]int32, len(c.ids))}
		for i := range corpus.Bytes {
			corpus.Bytes[i] = 4
		}
		err := CheckRepetition("text.txt", corpus.Repetition())
		if c.want == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != "" && (fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), "text.txt: repeats itself: ") || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
