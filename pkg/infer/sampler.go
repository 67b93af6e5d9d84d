package infer

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Sampler chooses the next token from logits. The zero value takes the most likely token.
type Sampler struct {
	// Temperature divides the logits; 0 takes the most likely token.
	Temperature float64
	// TopK keeps the k most likely tokens; 0 keeps all.
	TopK int
	// TopP keeps the most likely tokens that together reach this probability
	// (nucleus sampling, Holtzman et al. 2019, arXiv:1904.09751); 0 or 1 keeps all.
	TopP float64

	rng        *rand.Rand
	candidates []candidate
}

type candidate struct {
	id    int32
	logit float32
	p     float64
}

// Seed sets the seed of the random numbers; without it, the seed is 0.
func (s *Sampler) Seed(seed uint64) { s.rng = rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)) }

// Next returns the id of the next token, given its logits [vocab]. Only the first limit ids are
// candidates: rows of the embedding beyond the tokenizer's ids are padding.
func (s *Sampler) Next(logits []float32, limit int) int32 {
	logits = logits[:min(limit, len(logits))]
	if s.Temperature <= 0 {
		return Argmax(logits)
	}
	kept, sum := s.weigh(logits)
	if k := s.TopK; k > 0 && k < len(kept) {
		kept = s.likeliest(kept, func(n int, _ float64) bool { return n == k })
		sum = 0
		for _, c := range kept {
			sum += c.p
		}
	}
	if s.TopP > 0 && s.TopP < 1 {
		enough := s.TopP * sum
		kept = s.likeliest(kept, func(_ int, reached float64) bool { return reached >= enough })
		sum = 0
		for _, c := range kept {
			sum += c.p
		}
	}
	if s.rng == nil {
		s.Seed(0)
	}
	u := s.rng.Float64() * sum
	for _, c := range kept {
		if u -= c.p; u < 0 {
			return c.id
		}
	}
	return kept[len(kept)-1].id
}

// weigh returns all tokens in the order of their ids, with their unnormalized probabilities, and
// the sum of these.
func (s *Sampler) weigh(logits []float32) (all []candidate, sum float64) {
	s.candidates = s.candidates[:0]
	most := float64(logits[Argmax(logits)])
	for id, l := range logits {
		p := math.Exp((float64(l) - most) / s.Temperature)
		s.candidates = append(s.candidates, candidate{int32(id), l, p})
		sum += p
	}
	return s.candidates, sum
}

// likeliest returns the most likely candidates, in descending order, until enough returns true
// for their number and the sum of their probabilities. It takes them from a heap: a vocabulary
// has far more tokens than are kept, and sorting it would take a good part of the time of a
// decoded token.
func (s *Sampler) likeliest(heap []candidate, enough func(n int, sum float64) bool) []candidate {
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	n, sum := 0, 0.0
	for n < len(heap) {
		// Swap the root with the last element and shorten the heap by it.
		end := len(heap) - 1 - n
		heap[0], heap[end] = heap[end], heap[0]
		sink(heap[:end], 0)
		n, sum = n+1, sum+heap[end].p
		if enough(n, sum) {
			break
		}
	}
	kept := heap[len(heap)-n:]
	slices.Reverse(kept)
	return kept
}

// before reports whether a is more likely than b. Equal logits are ordered by id, so that a seed
// determines the text.
func (a candidate) before(b candidate) bool {
	return a.logit > b.logit || a.logit == b.logit && a.id < b.id
}

// sink restores a heap with the most likely candidate at its root by moving element i down.
func sink(heap []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && heap[child+1].before(heap[child]) {
			child++
		}
		if !heap[child].before(heap[i]) {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}

// Argmax returns the index of the largest value, the first of equal ones.
func Argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}
