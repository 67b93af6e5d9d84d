package infer

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The log-probabilities are those of a softmax in float64, and the most likely tokens those of a
// stable sort.
func TestLogProbs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 40, 4099} {
		logits := make([]float32, n)
		for i := range logits {
			logits[i] = float32(rng.IntN(60)) / 4 // with ties
		}
		sum := 0.0
		for _, l := range logits {
			sum += math.Exp(float64(l))
		}
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(i)
		}
		slices.SortStableFunc(ids, func(a, b int32) int { return cmp.Compare(logits[b], logits[a]) })
		for _, k := range []int{0, 1, 5, 20, n + 1} {
			id := ids[rng.IntN(n)]
			p, top := LogProbs(logits, id, k)
			if want := math.Log(math.Exp(float64(logits[id])) / sum); math.Abs(p-want) > 1e-6 {
				t.Errorf("log-probability %g, want %g", p, want)
			}
			if len(top) != min(k, n) {
				t.Fatalf("%d of the %d most likely tokens", len(top), k)
			}
			for i, c := range top {
				if c.ID != ids[i] || math.Abs(c.LogProb-math.Log(math.Exp(float64(logits[c.ID]))/sum)) > 1e-6 {
					t.Errorf("place %d of %d tokens is %+v, want token %d", i, n, c, ids[i])
				}
				if c.ID == id && c.LogProb != p {
					t.Errorf("token %d has the log-probabilities %g and %g", id, c.LogProb, p)
				}
			}
		}
	}
}
