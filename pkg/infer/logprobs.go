package infer

import (
	"slices"

	"afmq/internal/kernel"
)

// LogProb is the natural logarithm of a token's probability.
type LogProb struct {
	ID      int32
	LogProb float64
}

// LogProbs returns the log-probability of the token id, and those of the k most likely tokens in
// descending order, equal ones by id, given the logits [vocab]. The probabilities are those of the
// model, the softmax of all logits, without temperature. They are NaN if a logit is.
func LogProbs(logits []float32, id int32, k int) (float64, []LogProb) {
	lse := kernel.LogSumExp(logits)
	var top []LogProb
	if k > 0 {
		top = mostLikely(logits, min(k, len(logits)))
		for i := range top {
			top[i].LogProb = float64(logits[top[i].ID]) - lse
		}
	}
	return float64(logits[id]) - lse, top
}

// mostLikely returns the k largest logits in descending order, equal ones by id; k is small.
func mostLikely(logits []float32, k int) []LogProb {
	top := make([]LogProb, 0, k)
	least := logits[0] // of top, once it is full
	for id, l := range logits {
		if len(top) == k && !(l > least) {
			continue
		}
		at := len(top)
		for at > 0 && l > logits[top[at-1].ID] {
			at--
		}
		if len(top) == k {
			top = top[:k-1]
		}
		top = slices.Insert(top, at, LogProb{ID: int32(id)})
		least = logits[top[len(top)-1].ID]
	}
	return top
}
