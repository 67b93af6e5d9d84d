package batch

import (
	"fmt"
	"os"
	"testing"

	"afmq/pkg/compute"
	"afmq/pkg/infer"
)

// BenchmarkDecode generates 64 tokens for each of 8 requests: all of the base, all of one adapter,
// and each of another. AFMQ_MODEL names another model than the embedded one.
func BenchmarkDecode(b *testing.B) {
	m := benchModel(b)
	variants := make([]*infer.Model, 8)
	for i := range variants {
		variants[i] = randomAdapter(m, 16, uint64(i))
	}
	for name, of := range map[string]func(i int) *infer.Model{
		"base":  func(int) *infer.Model { return m },
		"one":   func(int) *infer.Model { return variants[0] },
		"eight": func(i int) *infer.Model { return variants[i] },
	} {
		for _, streams := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/streams=%d", name, streams), func(b *testing.B) {
				e := start(b, m, Options{Prefill: compute.Fastest(false), Decode: compute.Fastest(true)})
				tokens := 0
				for b.Loop() {
					var requests []*Request
					for i := range streams {
						requests = append(requests, &Request{Model: of(i), Prompt: []int32{1, 2, 3}, MaxTokens: 64, IgnoreEOS: true})
					}
					if _, err := e.Do(bg, requests...); err != nil {
						b.Fatal(err)
					}
					tokens += 64 * streams
				}
				b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}

func benchModel(b *testing.B) *infer.Model {
	path := os.Getenv("AFMQ_MODEL")
	if path == "" {
		return tiny(b)
	}
	m, err := infer.Open(bg, path, infer.OpenOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return m
}
