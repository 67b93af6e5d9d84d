package infer

import (
	"os"
	"testing"

	"afmq/pkg/compute"
)

func BenchmarkDecodeStep(b *testing.B) {
	dir := os.Getenv("AFMQ_MODEL")
	if dir == "" {
		b.Skip("AFMQ_MODEL names no checkpoint")
	}
	pool := compute.NewPool(0)
	defer pool.Close()
	m, err := OpenWeights(bg, dir, OpenOptions{Pool: pool})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []compute.Arithmetic{compute.F32, compute.Fastest(true)} {
		b.Run(c.String(), func(b *testing.B) {
			r := m.NewRunner(pool.With(c))
			cache := m.NewCache(256)
			logits := make([]float32, m.Config.VocabSize)
			tokens := []int32{5}
			b.ReportAllocs()
			for b.Loop() {
				if cache.Len == 256 {
					cache.Reset()
				}
				h := r.Forward([]Segment{{Cache: cache, Tokens: tokens}})
				r.Logits(logits, h, 1)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
