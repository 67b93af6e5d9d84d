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
	logit float64
	p     float64
}

// Seed fixes the random numbers that the sampler will draw.
func (s *Sampler) Seed(seed uint64) { s.rng = rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)) }

// Next returns the id of the next token given its logits [vocab], of which only
// the first limit may be chosen: rows beyond the tokenizer's ids are padding.
func (s *Sampler) Next(logits []float32, limit int) int32 {
	logits = logits[:min(limit, len(logits))]
	if s.Temperature <= 0 {
		return argmax(logits)
	}
	s.candidates = s.candidates[:0]
	for id, l := range logits {
		s.candidates = append(s.candidates, candidate{int32(id), float64(l) / s.Temperature, 0})
	}
	// Equal logits keep the order of their ids, so that a seed means one text.
	slices.SortFunc(s.candidates, func(a, b candidate) int {
		switch {
		case a.logit > b.logit:
			return -1
		case a.logit < b.logit:
			return 1
		}
		return int(a.id) - int(b.id)
	})
	kept := s.candidates
	if s.TopK > 0 && s.TopK < len(kept) {
		kept = kept[:s.TopK]
	}
	var sum float64
	for i := range kept {
		kept[i].p = math.Exp(kept[i].logit - kept[0].logit)
		sum += kept[i].p
	}
	if s.TopP > 0 && s.TopP < 1 {
		var reached float64
		for i := range kept {
			if reached += kept[i].p; reached >= s.TopP*sum {
				kept, sum = kept[:i+1], reached
				break
			}
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

// argmax returns the index of the largest value, the first of equals.
func argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}
