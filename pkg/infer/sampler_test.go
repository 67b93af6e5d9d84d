package infer

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestGreedyTakesTheFirstOfEquals(t *testing.T) {
	var s Sampler
	if got := s.Next([]float32{1, 5, 2, 5}, 4); got != 1 {
		t.Errorf("got %d", got)
	}
	if got := s.Next([]float32{1, 5, 2, 9}, 3); got != 1 {
		t.Errorf("a padding row was chosen: %d", got)
	}
}

// TestSamplingFollowsTheDistribution draws often and compares the frequencies
// with the softmax at each temperature: within five standard deviations.
func TestSamplingFollowsTheDistribution(t *testing.T) {
	logits := []float32{0, 1, 2, 3, -1}
	const draws = 20000
	for _, temperature := range []float64{0.5, 1, 2} {
		s := Sampler{Temperature: temperature}
		s.Seed(7)
		counts := make([]float64, len(logits))
		for range draws {
			counts[s.Next(logits, len(logits))]++
		}
		var sum float64
		for _, l := range logits {
			sum += math.Exp(float64(l) / temperature)
		}
		for i, l := range logits {
			p := math.Exp(float64(l)/temperature) / sum
			if sd := math.Sqrt(draws * p * (1 - p)); math.Abs(counts[i]-draws*p) > 5*sd {
				t.Errorf("temperature %v: token %d drawn %v times, expected %.0f ± %.0f", temperature, i, counts[i], draws*p, sd)
			}
		}
	}
}

func TestTopKAndTopPCutTheTail(t *testing.T) {
	logits := []float32{3, 2, 1, 0}
	seen := func(s Sampler) map[int32]bool {
		s.Seed(1)
		out := map[int32]bool{}
		for range 2000 {
			out[s.Next(logits, 4)] = true
		}
		return out
	}
	if got := seen(Sampler{Temperature: 1, TopK: 2}); len(got) != 2 || !got[0] || !got[1] {
		t.Errorf("top-k 2 drew %v", got)
	}
	// The probabilities are .644, .237, .087, .032: two reach 0.8.
	if got := seen(Sampler{Temperature: 1, TopP: 0.8}); len(got) != 2 || !got[0] || !got[1] {
		t.Errorf("top-p 0.8 drew %v", got)
	}
	if got := seen(Sampler{Temperature: 1, TopP: 1}); len(got) != 4 {
		t.Errorf("top-p 1 drew only %v", got)
	}
}

func TestSeedFixesTheText(t *testing.T) {
	logits := []float32{0.1, 0.2, 0.3, 0.4}
	draw := func(seed uint64) (out []int32) {
		s := Sampler{Temperature: 1}
		s.Seed(seed)
		for range 50 {
			out = append(out, s.Next(logits, 4))
		}
		return out
	}
	same := func(a, b []int32) bool {
		for i := range a {
			if a[i] != b[i] {
				return false
			}
		}
		return true
	}
	if !same(draw(1), draw(1)) || same(draw(1), draw(2)) {
		t.Error("a seed does not decide the draws")
	}
}

// TestSamplerKeepsTheLikeliest holds what is kept to a sort of the whole vocabulary.
func TestSamplerKeepsTheLikeliest(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		logits := make([]float32, 1+r.IntN(300))
		for i := range logits {
			logits[i] = float32(r.IntN(40)) / 4 // many are equal
		}
		s := Sampler{Temperature: 0.7}
		all, sum := s.weigh(logits)
		want := slices.Clone(all)
		slices.SortStableFunc(want, func(a, b candidate) int { return cmp.Compare(b.logit, a.logit) })
		k := 1 + r.IntN(len(logits))
		if got := s.likeliest(slices.Clone(all), func(n int, _ float64) bool { return n == k }); !slices.Equal(got, want[:k]) {
			t.Fatalf("the %d likeliest of %v are %v", k, logits, got)
		}
		share := r.Float64()
		got := s.likeliest(slices.Clone(all), func(_ int, reached float64) bool { return reached >= share*sum })
		n, reached := 0, 0.0
		for n < len(want) && reached < share*sum {
			reached += want[n].p
			n++
		}
		if !slices.Equal(got, want[:max(n, 1)]) {
			t.Fatalf("a share of %v of %v is %v", share, logits, got)
		}
	}
}

// BenchmarkSampler is a token of a large vocabulary.
func BenchmarkSampler(b *testing.B) {
	logits := make([]float32, 128<<10)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range logits {
		logits[i] = float32(3 * r.NormFloat64())
	}
	for name, s := range map[string]Sampler{"greedy": {}, "all": {Temperature: 1}, "top-k": {Temperature: 1, TopK: 40}, "top-p": {Temperature: 1, TopP: 0.95}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s.Next(logits, len(logits))
			}
		})
	}
}
