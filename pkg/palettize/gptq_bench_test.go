package palettize

import (
	"math/rand/v2"
	"testing"
	"time"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// BenchmarkCompensate times the parts of compensating a square matrix. It reports them as
// multiples of the time of their floating-point operations in a product of such matrices,
// which it measures before and after:
//
//	gptq/flops    factor and feedback, over n³ for the updates and 4/3·n³ for the
//	              factorization, as GPTQ is usually counted
//	round/flops   one round, over the 2·n³ of each of its products
//
//	go test -run '^$' -bench Compensate -benchtime 5x ./pkg/palettize
func BenchmarkCompensate(b *testing.B) {
	const n = 3072
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
	factor, tables, feedback, round := time.Hour, time.Hour, time.Hour, time.Hour
	for b.Loop() {
		again := append([]float32(nil), h...)
		start := time.Now()
		f, err := NewHessianFactor(pool, again, n, DefaultDamping)
		if err != nil {
			b.Fatal(err)
		}
		factor = min(factor, time.Since(start))
		opt := Options{Bits: 4}
		plain := opt
		plain.Importance = f.importance()
		start = time.Now()
		m, _, err := Palettize(pool, Source{F32: w}, n, n, plain)
		if err != nil {
			b.Fatal(err)
		}
		tables = min(tables, time.Since(start))
		start = time.Now()
		eachChunk(pool, f, m, w, func(s *compensator) { s.feedback() })
		feedback = min(feedback, time.Since(start))
		start = time.Now()
		eachChunk(pool, f, m, w, func(s *compensator) {
			s.gradient()
			s.fit()
			s.gradient()
			s.descend()
		})
		round = min(round, time.Since(start))
	}
	measure()
	flop := float64(product) / (2 * n * n * n)
	b.ReportMetric(float64(factor+feedback)/(flop*(1+4./3)*n*n*n), "gptq/flops")
	b.ReportMetric(float64(round)/(flop*2*n*n*n*(3+refitSteps)), "round/flops")
	b.ReportMetric(factor.Seconds(), "factor-s")
	b.ReportMetric(tables.Seconds(), "tables-s")
	b.ReportMetric(feedback.Seconds(), "feedback-s")
	b.ReportMetric(round.Seconds(), "round-s")
	b.ReportMetric(product.Seconds(), "product-s")
}

// eachChunk prepares a compensator for every chunk of the matrix and calls f.
func eachChunk(pool *compute.Pool, f *HessianFactor, m *Matrix, w []float32, do func(s *compensator)) {
	solvers := make([]*compensator, pool.Threads())
	per := chunkRows(m.Rows, m.GroupRows)
	pool.Run((m.Rows+per-1)/per, func(id, i int) {
		if solvers[id] == nil {
			solvers[id] = &compensator{m: m, f: f, src: Source{F32: w}}
		}
		s := solvers[id]
		s.first, s.rows = per*i, min(per, m.Rows-per*i)
		for _, p := range []*[]float32{&s.weights, &s.errs, &s.grad, &s.sums} {
			*p = grow(*p, s.rows*f.n)
		}
		s.index, s.part = grow(s.index, s.rows*f.n), grow(s.part, s.rows*solveBlock)
		s.load()
		s.measure()
		do(s)
	})
}
