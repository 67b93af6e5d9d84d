package palettize

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"afmq/pkg/compute"
)

// heavyMatrix draws fp16 weights [rows, cols] from the mixture of [heavy], with a different
// scale for each group of 16 rows.
func heavyMatrix(rows, cols int) []uint16 {
	r := rand.New(rand.NewPCG(3, 4))
	w := make([]uint16, rows*cols)
	scale := 0.0
	for i := range w {
		if i%(16*cols) == 0 {
			scale = 0.015 + 0.02*r.Float64()
		}
		w[i], _ = roundF16(scale * heavy(r))
	}
	return w
}

// BenchmarkPalettize measures the path from fp16 weights to packed indices, in groups of
// 16 x 3072, in MB of fp16 per second.
func BenchmarkPalettize(b *testing.B) {
	const rows, cols = 1024, 3072
	w := heavyMatrix(rows, cols)
	for _, threads := range []int{1, 2} {
		for _, bits := range []int{2, 3, 4, 6, 8} {
			b.Run(fmt.Sprintf("bits=%d/threads=%d", bits, threads), func(b *testing.B) {
				pool := compute.NewPool(threads)
				defer pool.Close()
				b.SetBytes(2 * rows * cols)
				for b.Loop() {
					if _, _, err := Palettize(pool, Source{F16: w}, rows, cols, Options{Bits: bits, NoRowScale: true}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkPalettizeRowScale is BenchmarkPalettize with row scales.
func BenchmarkPalettizeRowScale(b *testing.B) {
	const rows, cols = 256, 3072
	w := heavyMatrix(rows, cols)
	pool := compute.NewPool(1)
	defer pool.Close()
	for _, bits := range []int{2, 4} {
		b.Run(fmt.Sprintf("bits=%d", bits), func(b *testing.B) {
			b.SetBytes(2 * rows * cols)
			for b.Loop() {
				if _, _, err := Palettize(pool, Source{F16: w}, rows, cols, Options{Bits: bits}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
