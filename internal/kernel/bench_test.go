package kernel

import (
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"
)

// Benchmarks report the fastest iteration, relative to rates that the same threads reach in the same
// run: multiply-adds on registers (%peak), tile products (%tiles) or reading memory (%stream). These
// rates are the best of several measurements, before and after.
//
//	go test -run '^$' -bench . ./internal/kernel
//	AFMQ_CPU=avx2 go test -run '^$' -bench MulT ./internal/kernel

// fastest is the shortest of several calls.
type fastest time.Duration

func (f *fastest) time(g func()) {
	start := time.Now()
	g()
	if d := fastest(time.Since(start)); *f == 0 || d < *f {
		*f = d
	}
}

func (f *fastest) per(work float64) float64 { return work / time.Duration(*f).Seconds() }

// limits holds the peak rates of all threads of a pool.
type limits struct {
	pool           *Pool
	memory         []byte
	compute, read  fastest
	flops, touched float64
	tiles          fastest
	tileFlops      float64
}

// measureTiles is measurePeak for bfloat16 products on AMX tiles.
func (l *limits) measureTiles() {
	var data [1024]uint16
	for i := range data { // signs, exponents and fractions like those of activations
		data[i] = uint16(i%3)<<14&0x8000 | 0x3e00 + uint16(i*37%0x200)
	}
	for range 20 {
		l.tiles.time(func() { l.tileFlops = float64(peakTiles(tileConfig, &data, 1<<12) * l.pool.Threads()) })
	}
}

// measurePeak measures one core and multiplies by the number of threads: on a shared machine two cores
// are rarely idle at the same time for long enough to measure both.
func (l *limits) measurePeak() {
	for range 20 {
		l.compute.time(func() { l.flops = float64(peak(currentISA(), 1<<16) * l.pool.Threads()) })
	}
}

func (l *limits) measureStream() {
	if l.memory == nil {
		l.memory = make([]byte, 192<<20)
		for i := range l.memory {
			l.memory[i] = byte(i >> 12)
		}
	}
	const parts = 24
	size := len(l.memory) / parts
	for i := range 8 {
		l.read.time(func() {
			l.pool.Run(parts, func(_, p int) { stream(currentISA(), l.memory[p*size:(p+1)*size], i%2 == 1) })
		})
	}
	l.touched = float64(len(l.memory))
}

// benchFormats lists a constructor for a matrix of each format.
var benchFormats = []struct {
	name string
	make func(n, k int) *Matrix
}{
	{"F32", func(n, k int) *Matrix { return PackF32(n, k, scaled(n*k, 1, 1)) }},
	{"F16", func(n, k int) *Matrix { return PackF16(n, k, halves(n*k)) }},
	{"BF16", func(n, k int) *Matrix { return PackBF16(n, k, halves(n*k)) }},
	{"Int8", func(n, k int) *Matrix { return PackInt8(n, k, make([]int8, n*k), scaled(n, 1, 1)) }},
	{"LUT4", func(n, k int) *Matrix { return benchLUT(n, k, 4, false) }},
	{"LUT4Scaled", func(n, k int) *Matrix { return benchLUT(n, k, 4, true) }},
	{"LUT2", func(n, k int) *Matrix { return benchLUT(n, k, 2, false) }},
	{"LUT8", func(n, k int) *Matrix { return benchLUT(n, k, 8, false) }},
}

// benchThreads returns the thread counts to measure: one, and all.
func benchThreads() []int {
	if n := runtime.GOMAXPROCS(0); n > 1 {
		return []int{1, n}
	}
	return []int{1}
}

// computesFor returns the arithmetics that both the level in use and the matrix support.
func computesFor(w *Matrix) []Compute {
	list := []Compute{F32}
	if hasVNNI(currentISA()) && w.int16() != nil {
		list = append(list, I16)
	}
	if tilesInUse() {
		list = append(list, Split, BF16)
	}
	return list
}

func halves(n int) []uint16 {
	h := make([]uint16, n)
	for i := range h {
		h[i] = uint16(0x3000 + i%0x800)
	}
	return h
}

func benchLUT(n, k, bits int, scaled bool) *Matrix {
	s := stored{rows: n, cols: k, bits: bits, group: 16, lut: halves((n + 15) / 16 << bits)}
	s.indices = make([]byte, n*((k*bits+7)/8))
	for i := range s.indices {
		s.indices[i] = byte(i * 37)
	}
	if scaled {
		s.rowScale = halves(n)
	}
	return s.pack()
}

// BenchmarkLimits reports the peak rates themselves.
func BenchmarkLimits(b *testing.B) {
	l := limits{pool: NewPool(0)}
	defer l.pool.Close()
	for b.Loop() {
		l.measurePeak()
		l.measureStream()
	}
	b.ReportMetric(l.compute.per(l.flops)/1e9, "peak-GF/s")
	if tilesInUse() {
		l.measureTiles()
		b.ReportMetric(l.tiles.per(l.tileFlops)/1e9, "tiles-GF/s")
	}
	b.ReportMetric(l.read.per(l.touched)/1e9, "stream-GB/s")
}

// BenchmarkMulT measures the products of prefill, which are compute-bound.
func BenchmarkMulT(b *testing.B) {
	for _, threads := range benchThreads() {
		l := limits{pool: NewPool(threads)}
		for _, s := range [][3]int{{512, 2048, 2048}, {2048, 2048, 2048}, {256, 896, 320}, {256, 320, 896}, {16, 2048, 2048}} {
			m, n, k := s[0], s[1], s[2]
			x, y := scaled(m*k, 1, 2), make([]float32, m*n)
			for _, f := range benchFormats {
				w := f.make(n, k)
				for _, c := range computesFor(w) {
					pool := l.pool.With(c)
					b.Run(fmt.Sprintf("m=%d,n=%d,k=%d/%s/%s/threads=%d", m, n, k, f.name, c, threads), func(b *testing.B) {
						l.measurePeak()
						var t fastest
						for b.Loop() {
							t.time(func() { pool.MulT(y, x, m, w) })
						}
						l.measurePeak()
						rate := t.per(2 * float64(m*n*k))
						b.ReportMetric(rate/1e9, "GF/s")
						b.ReportMetric(100*rate/l.compute.per(l.flops), "%peak")
						if c == Split || c == BF16 {
							l.measureTiles()
							b.ReportMetric(100*rate/l.tiles.per(l.tileFlops), "%tiles")
						}
					})
				}
			}
		}
		l.pool.Close()
	}
}

// BenchmarkDecode measures products of one or a few rows with weights larger than the caches, which
// are limited by memory bandwidth.
func BenchmarkDecode(b *testing.B) {
	const n, k = 4096, 4096
	for _, threads := range benchThreads() {
		l := limits{pool: NewPool(threads)}
		for _, f := range benchFormats {
			var ws []*Matrix
			for size := int64(0); size < 160<<20; size += ws[0].Bytes() {
				ws = append(ws, f.make(n, k))
			}
			for _, m := range []int{1, 2, 4} {
				x, y := scaled(m*k, 1, 2), make([]float32, m*n)
				for _, c := range computesFor(ws[0]) {
					pool := l.pool.With(c)
					b.Run(fmt.Sprintf("m=%d/%s/%s/threads=%d", m, f.name, c, threads), func(b *testing.B) {
						l.measureStream()
						l.measurePeak()
						var t fastest
						for b.Loop() {
							t.time(func() {
								for _, w := range ws {
									pool.MulT(y, x, m, w)
								}
							})
						}
						l.measureStream()
						bytes := float64(len(ws)) * float64(ws[0].Bytes())
						b.ReportMetric(t.per(bytes)/1e9, "GB/s")
						b.ReportMetric(100*t.per(bytes)/l.read.per(l.touched), "%stream")
						flops := t.per(2 * float64(len(ws)*m*n*k))
						b.ReportMetric(100*flops/l.compute.per(l.flops), "%peak")
					})
				}
			}
		}
		l.pool.Close()
	}
}

// BenchmarkAttention measures the two small products of one attention head.
func BenchmarkAttention(b *testing.B) {
	const m, ctx, head = 256, 256, 64
	l := limits{pool: NewPool(1)}
	defer l.pool.Close()
	var s Scratch
	q, keys, scores, out := scaled(m*head, 1, 1), scaled(ctx*head, 1, 2), make([]float32, m*ctx), make([]float32, m*head)
	for name, mul := range map[string]func(){
		"MulNT": func() { s.MulNT(m, ctx, head, q, head, keys, head, scores, ctx) },
		"MulNN": func() { s.MulNN(m, head, ctx, scores, ctx, keys, head, out, head) },
	} {
		b.Run(name, func(b *testing.B) {
			l.measurePeak()
			var t fastest
			for b.Loop() {
				t.time(mul)
			}
			rate := t.per(2 * m * ctx * head)
			b.ReportMetric(rate/1e9, "GF/s")
			b.ReportMetric(100*rate/l.compute.per(l.flops), "%peak")
		})
	}
}

// BenchmarkElementwise reports elements per second.
func BenchmarkElementwise(b *testing.B) {
	const n = 4096
	x, w, y, h := scaled(n, 1, 1), scaled(n, 1, 2), make([]float32, n), halves(n)
	lse := LogSumExp(x)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"Softmax", func() { copy(y, x); Softmax(y, 0.1) }},
		{"LogSumExp", func() { LogSumExp(x) }},
		{"KL", func() { KL(x, w, lse, lse) }},
		{"RMSNorm", func() { RMSNorm(y, x, w, 1e-6) }},
		{"SiLUMul", func() { SiLUMul(y, x, w) }},
		{"Rope", func() { copy(y, x); Rope(y, x[:n/2], w[:n/2]) }},
		{"Add", func() { Add(y, x) }},
		{"F16ToF32", func() { F16ToF32(y, h) }},
		{"F32ToF16", func() { F32ToF16(h, x) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var t fastest
			for b.Loop() {
				t.time(c.f)
			}
			b.ReportMetric(t.per(n)/1e9, "Gelem/s")
		})
	}
	if math.IsNaN(float64(y[0])) {
		b.Fatal("NaN")
	}
}

// BenchmarkPack measures the packing of weights.
func BenchmarkPack(b *testing.B) {
	const n, k = 2048, 2048
	h := halves(n * k)
	s := randomLUT(newRand(1), n, k, 4, 16)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"F16", func() { PackF16(n, k, h) }},
		{"LUT4", func() { s.pack() }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(n * k) // so that MB/s are millions of weights
			for b.Loop() {
				c.f()
			}
		})
	}
}

// BenchmarkCholesky and BenchmarkGram report the rate relative to the multiply-add peak.
func BenchmarkCholesky(b *testing.B) {
	const n = 3072
	benchmarkBlas(b, n*n*n/3, func(p *Pool, x, h, a []float32) { copy(a, h); p.Cholesky(a, n) })
}

func BenchmarkGram(b *testing.B) {
	const n = 3072
	benchmarkBlas(b, 1024*n*n, func(p *Pool, x, h, a []float32) { p.AddGram(a, x, 1024, n) })
}

func BenchmarkMul(b *testing.B) {
	const n = 3072
	w := PackF32(n, n, make([]float32, n*n))
	benchmarkBlas(b, 2*256*n*n, func(p *Pool, x, h, a []float32) { p.Mul(a, x, 256, w) })
}

// benchmarkBlas runs f with x [1024, 3072], a positive definite h [3072, 3072] and a buffer of the
// size of h.
func benchmarkBlas(b *testing.B, flops float64, f func(p *Pool, x, h, a []float32)) {
	const n = 3072
	p := NewPool(0)
	defer p.Close()
	l := limits{pool: p}
	l.measurePeak()
	x, h, a := normals(newRand(1), 1024*n), make([]float32, n*n), make([]float32, n*n)
	p.AddGram(h, x, 1024, n)
	for i := range n {
		h[i*n+i] += 10
	}
	Symmetrize(h, n)
	var best fastest
	for b.Loop() {
		best.time(func() { f(p, x, h, a) })
	}
	l.measurePeak()
	b.ReportMetric(100*best.per(flops)/l.compute.per(l.flops), "%peak")
}
