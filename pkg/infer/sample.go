package infer

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Sampler chooses the next token from logits.
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

// Seed fixes the random numbers that the sampler will draw.
func (s *Sampler) Seed(seed uint64) { s.rng = rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)) }

// Next returns the id of the next token given its logits [vocab], of which only
// the first limit may be chosen: rows beyond the tokenizer's ids are padding.
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

// weigh returns all tokens with their probabilities times a common factor, in the order of ids, and the
// sum of these.
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

// likeliest returns the most likely of the candidates, in order, up to the first after which enough says so of
// their number and of the sum of their probabilities. It makes a heap of the candidates and takes from
// it what it needs: a vocabulary has far more tokens than are ever kept, and sorting it would take as
// long as a good part of a decoded token.
func (s *Sampler) likeliest(heap []candidate, enough func(n int, sum float64) bool) []candidate {
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	n, sum := 0, 0.0
	for n < len(heap) {
		// The heap gives its first place up for its last, and ends one place earlier.
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

// before reports whether a is the more likely one. Equal logits keep the order of their ids, so that a
// seed means one text.
func (a candidate) before(b candidate) bool {
	return a.logit > b.logit || a.logit == b.logit && a.id < b.id
}

// sink moves the candidate at i down to its place in a heap whose first is the most likely.
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

// argmax returns the index of the largest value, the first of equals.
func Argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}
