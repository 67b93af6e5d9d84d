package grid

import (
	"math/rand/v2"
	"testing"
	"time"

	"afmq/pkg/compute"
	"afmq/pkg/gptq"
)

// BenchmarkGrid times both methods of each grid on one thread. It reports the million weights
// that a second fits, and the work of a weight in multiplications of a matrix product that take as
// long, which it measures before: see blockFitWork, affineFitWork and codesWork.
//
//	go test -run '^$' -bench Grid -benchtime 3x ./pkg/grid
func BenchmarkGrid(b *testing.B) {
	const rows, cols, tokens = 128, 1024, 2048
	pool := compute.NewPool(1)
	defer pool.Close()
	r := rand.New(rand.NewPCG(1, 1))
	w, x := make([]float32, rows*cols), make([]float32, tokens*cols)
	for _, v := range [][]float32{w, x} {
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
	}
	f, err := gptq.NewFactor(pool, hessian(r, cols), cols, gptq.DefaultDamping, 128)
	if err != nil {
		b.Fatal(err)
	}
	packed, y := compute.PackF32(rows, cols, w), make([]float32, tokens*rows)
	product := time.Hour
	for range 5 {
		start := time.Now()
		pool.MulT(y, x, tokens, packed)
		product = min(product, time.Since(start))
	}
	for _, g := range grids() {
		run := func(name string, matrix func() error) {
			b.Run(g.String()+"/"+name, func(b *testing.B) {
				best := time.Hour
				for b.Loop() {
					start := time.Now()
					if err := matrix(); err != nil {
						b.Fatal(err)
					}
					best = min(best, time.Since(start))
				}
				b.ReportMetric(rows*cols/best.Seconds()/1e6, "Mweights/s")
				b.ReportMetric(tokens*float64(best)/float64(product), "work/weight")
			})
		}
		run("quantize", func() error { _, _, err := g.Quantize(pool, Source{F32: w}, rows, cols, nil); return err })
		run("compensate", func() error { _, _, err := g.Compensate(pool, Source{F32: w}, rows, cols, f, nil); return err })
	}
}
