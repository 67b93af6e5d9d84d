package palettize

import (
	"math/rand/v2"
	"testing"
	"time"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/gptq"
)

// BenchmarkCompensate times the parts of compensating a square matrix. It reports them as
// multiples of the time of their floating-point operations in a product of such matrices,
// which it measures before and after:
//
//	gptq/flops    factor and feedback, over n³ for the updates and 4/3·n³ for the
//	              factorization, as GPTQ is usually counted
//	round/flops   one round, over the 2·n³ of each of its products
//	loss/gptq     all of it with the moment of the outputs, over all of it without
//
//	go test -run '^$' -bench Compensate -benchtime 5x ./pkg/palettize
func BenchmarkCompensate(b *testing.B) {
	const n, rounds = 3072, 4
	pool := compute.NewPool(0)
	defer pool.Close()
	r := rand.New(rand.NewPCG(1, 1))
	x, w := make([]float32, 1024*n), make([]float32, n*n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for i := range w {
		w[i] = float32(r.NormFloat64())
	}
	h := make([]float32, n*n)
	pool.AddGram(h, x, 1024, n)
	kernel.Symmetrize(h, n)
	packed, y := compute.PackF32(n, n, w), make([]float32, n*n)
	product := time.Hour // 2·n³
	measure := func() {
		for range 3 {
			start := time.Now()
			pool.MulT(y, w, n, packed)
			product = min(product, time.Since(start))
		}
	}
	measure()
	factor, tables, feedback, round, whole, loss := time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour
	out, err := gptq.NewOutput(append([]float32(nil), h...), n, 4*n)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		again := append([]float32(nil), h...)
		start := time.Now()
		f, err := gptq.NewFactor(pool, again, n, gptq.DefaultDamping, 1)
		if err != nil {
			b.Fatal(err)
		}
		factor = min(factor, time.Since(start))
		opt := Options{Bits: 4, Importance: f.Importance()}
		start = time.Now()
		if _, _, err := Palettize(pool, Source{F32: w}, n, n, opt); err != nil {
			b.Fatal(err)
		}
		tables = min(tables, time.Since(start))
		var took [2]time.Duration
		for i, rounds := range []int{-1, rounds} {
			start = time.Now()
			if _, _, err := Compensate(pool, Source{F32: w}, n, n, Options{Bits: 4}, f, nil, Compensation{Rounds: rounds}); err != nil {
				b.Fatal(err)
			}
			took[i] = time.Since(start)
		}
		feedback = min(feedback, took[0]-tables)
		round = min(round, (took[1]-took[0])/rounds)
		whole = min(whole, took[1])
		start = time.Now()
		if _, _, err := Compensate(pool, Source{F32: w}, n, n, Options{Bits: 4}, f, out, Compensation{}); err != nil {
			b.Fatal(err)
		}
		loss = min(loss, time.Since(start))
	}
	measure()
	flop := float64(product) / (2 * n * n * n)
	b.ReportMetric(float64(factor+feedback)/(flop*(1+4./3)*n*n*n), "gptq/flops")
	b.ReportMetric(float64(round)/(flop*2*n*n*n*(3+gptq.FitSteps)), "round/flops")
	b.ReportMetric(float64(loss)/float64(whole), "loss/gptq")
	b.ReportMetric(factor.Seconds(), "factor-s")
	b.ReportMetric(tables.Seconds(), "tables-s")
	b.ReportMetric(feedback.Seconds(), "feedback-s")
	b.ReportMetric(round.Seconds(), "round-s")
	b.ReportMetric(product.Seconds(), "product-s")
}
