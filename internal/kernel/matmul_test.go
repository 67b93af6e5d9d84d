package kernel

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// fmaExact returns a·b+c rounded once, computed in exact arithmetic.
func fmaExact(a, b, c float32) float32 {
	f := func(x float32) *big.Float { return new(big.Float).SetPrec(600).SetFloat64(float64(x)) }
	s := f(a)
	s.Mul(s, f(b)).Add(s, f(c))
	v, _ := s.Float32()
	return v
}

// chain computes a sum in the documented order: one chain of fused multiply-adds for each block of 256,
// and the blocks added in ascending order.
func chain(x, w []float32) float32 {
	var c float32
	for k0 := 0; k0 < len(x); k0 += blockK {
		var s float32
		for k := k0; k < min(k0+blockK, len(x)); k++ {
			s = fmaExact(x[k], w[k], s)
		}
		c += s
	}
	return c
}

// dot returns Σ x·w and Σ |x·w| in float64.
func dot(x, w []float32) (sum, magnitude float64) {
	for i, v := range x {
		p := float64(v) * float64(w[i])
		sum += p
		magnitude += math.Abs(p)
	}
	return sum, magnitude
}

// product computes Y = X·Wᵀ by one call of MulT on a new pool.
func product(threads int, x []float32, m int, w *Matrix) []float32 {
	p := NewPool(threads)
	defer p.Close()
	y := make([]float32, m*w.Rows())
	for i := range y {
		y[i] = float32(math.NaN()) // every element must be written
	}
	p.MulT(y, x, m, w)
	return y
}

// TestMulTIsOneChain compares every vector level bit by bit with the documented order of sums, computed
// in exact arithmetic, and the generic level within 1e-6.
func TestMulTIsOneChain(t *testing.T) {
	const m, n, k = 3, 21, 2*blockK + 37
	r := newRand(1)
	x, w := normals(r, m*k), normals(r, n*k)
	want := make([]float32, m*n)
	for i := range m {
		for j := range n {
			want[i*n+j] = chain(x[i*k:][:k], w[j*k:][:k])
		}
	}
	packed := PackF32(n, k, w)
	eachLevel(t, func(t *testing.T, level string) {
		got := product(1, x, m, packed)
		if level != "generic" {
			sameBits(t, "MulT", got, want)
			return
		}
		for i := range want {
			_, mag := dot(x[i/n*k:][:k], w[i%n*k:][:k])
			if d := math.Abs(float64(got[i] - want[i])); d > 1e-6*mag {
				t.Fatalf("element %d is %v, want %v", i, got[i], want[i])
			}
		}
	})
}

// TestMulTSizes compares every level with float64 for sizes near every block boundary.
func TestMulTSizes(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		r := newRand(2)
		for _, n := range []int{1, 15, 16, 17, 32, 33, 64, 100, 129, 272} {
			for _, k := range []int{1, 2, 3, 5, 8, 15, 16, 17, 31, 64, 255, 256, 257, 300} {
				w := normals(r, n*k)
				packed := PackF32(n, k, w)
				for _, m := range []int{1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 29} {
					x := normals(r, m*k)
					y := product(1, x, m, packed)
					for i := range y {
						want, mag := dot(x[i/n*k:][:k], w[i%n*k:][:k])
						if d := math.Abs(float64(y[i]) - want); !(d <= 2e-5*mag+1e-30) {
							t.Fatalf("m %d n %d k %d: element %d is %v, want %v", m, n, k, i, y[i], want)
						}
					}
				}
			}
		}
	})
}

// TestSameBitsEverywhere checks that decoding equals prefill: a row has the same bits alone, in any
// batch, with any number of threads, at all vector levels, and by MulNT and MulNN.
func TestSameBitsEverywhere(t *testing.T) {
	before := Level()
	defer selectLevel(t, before)
	const maxM, n, k = 70, 333, 2*blockK + 70
	r := newRand(3)
	x, w := normals(r, maxM*k), normals(r, n*k)
	wt := make([]float32, k*n)
	for j := range n {
		for c := range k {
			wt[c*n+j] = w[j*k+c]
		}
	}
	packed := PackF32(n, k, w)
	check := func(levels []string) {
		selectLevel(t, levels[0])
		want := product(1, x, maxM, packed)
		for _, lv := range levels {
			selectLevel(t, lv)
			for _, threads := range []int{1, 2, 3, 7} {
				for _, m := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 27, 28, 29, 43, 64, maxM} {
					first := maxM - m
					got := product(threads, x[first*k:], m, packed)
					sameBits(t, fmt.Sprintf("%s, %d threads, %d rows", lv, threads, m), got, want[first*n:])
				}
			}
			var s Scratch
			for _, m := range []int{1, 4, 14, maxM} {
				got := make([]float32, m*n)
				s.MulNT(m, n, k, x, k, w, k, got, n)
				sameBits(t, lv+" MulNT", got, want[:m*n])
				s.MulNN(m, n, k, x, k, wt, n, got, n)
				sameBits(t, lv+" MulNN", got, want[:m*n])
			}
		}
	}
	check([]string{"generic"})
	if v := vectorLevels(); len(v) > 0 {
		check(v)
	}
}

// TestSmallProducts checks MulNT and MulNN with gaps between rows, and that the gaps between the rows of
// C are not written.
func TestSmallProducts(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		r := newRand(4)
		var s Scratch
		tries := 200
		if testing.Short() {
			tries = 40
		}
		for range tries {
			m, n, k := 1+r.IntN(40), 1+r.IntN(300), r.IntN(300)
			lda, ldbT, ldb, ldc := k+r.IntN(5), k+r.IntN(5), n+r.IntN(5), n+r.IntN(5)
			a, bT, b := normals(r, m*lda+k), normals(r, n*ldbT+k), normals(r, k*ldb+n)
			for name, mul := range map[string]func(c []float32){
				"MulNT": func(c []float32) { s.MulNT(m, n, k, a, lda, bT, ldbT, c, ldc) },
				"MulNN": func(c []float32) { s.MulNN(m, n, k, a, lda, b, ldb, c, ldc) },
			} {
				c := make([]float32, (m-1)*ldc+n)
				for i := range c {
					c[i] = 77
				}
				mul(c)
				for i, got := range c {
					row, col := i/ldc, i%ldc
					if col >= n {
						if got != 77 {
							t.Fatalf("%s wrote beyond row %d of C", name, row)
						}
						continue
					}
					var want, mag float64
					for p := range k {
						v := float64(b[p*ldb+col])
						if name == "MulNT" {
							v = float64(bT[col*ldbT+p])
						}
						v *= float64(a[row*lda+p])
						want += v
						mag += math.Abs(v)
					}
					if d := math.Abs(float64(got) - want); !(d <= 2e-5*mag) {
						t.Fatalf("%s [%d,%d,%d]: C[%d,%d] is %v, want %v", name, m, n, k, row, col, got, want)
					}
				}
			}
		}
	})
}

// TestMulTPropagates checks that infinities and NaN in one row of X affect that row of Y only.
func TestMulTPropagates(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		const m, n, k = 20, 40, 300
		r := newRand(5)
		x, w := normals(r, m*k), normals(r, n*k)
		x[7*k+3] = float32(math.NaN())
		x[9*k+299] = float32(math.Inf(1))
		y := product(2, x, m, PackF32(n, k, w))
		for i, v := range y {
			bad := v != v || math.IsInf(float64(v), 0)
			if row := i / n; bad != (row == 7 || row == 9) {
				t.Fatalf("row %d has %v", row, v)
			}
		}
	})
}

func TestMulTEmpty(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	p.MulT(nil, nil, 0, PackF32(3, 2, make([]float32, 6)))
	p.MulT(nil, make([]float32, 4), 2, PackF32(0, 2, nil))
	y := []float32{1, 2, 3, 4}
	p.MulT(y, nil, 2, PackF32(2, 0, nil))
	sameBits(t, "no columns", y, make([]float32, 4))
}

func TestMulTShapes(t *testing.T) {
	p := NewPool(1)
	defer p.Close()
	w := PackF32(3, 2, make([]float32, 6))
	for name, f := range map[string]func(){
		"short x":  func() { p.MulT(make([]float32, 6), make([]float32, 3), 2, w) },
		"short y":  func() { p.MulT(make([]float32, 5), make([]float32, 4), 2, w) },
		"PackF32":  func() { PackF32(2, 2, make([]float32, 3)) },
		"PackInt8": func() { PackInt8(2, 2, make([]int8, 4), make([]float32, 3)) },
		"PackLUT":  func() { PackLUT(2, 2, 9, 16, nil, nil, nil) },
		"lut":      func() { PackLUT(2, 2, 4, 16, make([]byte, 2), make([]uint16, 15), nil) },
		"Row":      func() { w.Row(make([]float32, 2), 3) },
		"Add":      func() { Add(make([]float32, 2), make([]float32, 3)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// fuzzMatrix returns the matrix of a fuzz input, the same matrix without the factors of its rows, and
// the factors.
func fuzzMatrix(kind uint8, n, k int, r *rand.Rand) (w, bare *Matrix, factors []float32) {
	factors = make([]float32, n)
	for i := range factors {
		factors[i] = 1
	}
	same := func(w *Matrix) (*Matrix, *Matrix, []float32) { return w, w, factors }
	switch kind % 5 {
	case 0:
		return same(PackF32(n, k, normals(r, n*k)))
	case 1, 2:
		h := make([]uint16, n*k)
		F32ToF16(h, normals(r, n*k))
		if kind%5 == 1 {
			return same(PackF16(n, k, h))
		}
		return same(PackBF16(n, k, h))
	case 3:
		q := make([]int8, n*k)
		for i := range q {
			q[i] = int8(r.Uint32())
		}
		scale := normals(r, n)
		return PackInt8(n, k, q, scale), PackInt8(n, k, q, factors), scale
	}
	s := randomLUT(r, n, k, 1+int(kind>>3)%8, []int{16, 8, 32, 5}[kind>>6])
	if kind>>2&1 == 0 {
		s.rowScale = nil
		return same(s.pack())
	}
	w, factors = s.pack(), s.scales()
	s.rowScale = nil
	return w, s.pack(), factors
}

// FuzzMulT compares all levels for arbitrary formats and shapes.
func FuzzMulT(f *testing.F) {
	for kind := range uint8(20) {
		f.Add(kind*13, uint8(1+kind), uint16(37*kind), uint16(90*kind), uint64(kind))
	}
	f.Add(uint8(59), uint8(246), uint16(22), uint16(0), uint64(185)) // no columns
	f.Add(uint8(43), uint8(1), uint16(70), uint16(0), uint64(79))    // nor with negative factors
	f.Fuzz(func(t *testing.T, kind, rows uint8, n, k uint16, seed uint64) {
		m, nn, kk := int(rows)%34, int(n)%300, int(k)%600
		r := newRand(seed)
		w, bare, factors := fuzzMatrix(kind, nn, kk, r)
		x := normals(r, m*kk)
		dense, transposed := make([]float32, nn*kk), make([]float32, kk*nn)
		for j := range nn {
			bare.Row(dense[j*kk:][:kk], j)
			for c, v := range dense[j*kk:][:kk] {
				transposed[c*nn+j] = v
			}
		}
		before := Level()
		defer selectLevel(t, before)
		var small Scratch
		scaled := func(c []float32) []float32 {
			for i := range c {
				if kk > 0 { // the empty sum is +0 whatever the factor
					c[i] *= factors[i%nn]
				}
			}
			return c
		}
		var want, vector []float32
		for _, lv := range Levels() {
			selectLevel(t, lv)
			got := product(1+int(seed%3), x, m, w)
			c := make([]float32, m*nn)
			small.MulNT(m, nn, kk, x, kk, dense, kk, c, nn)
			sameBits(t, lv+": MulNT and MulT", scaled(c), got)
			small.MulNN(m, nn, kk, x, kk, transposed, nn, c, nn)
			sameBits(t, lv+": MulNN and MulT", scaled(c), got)
			if lv == "generic" {
				want = got
				continue
			}
			if vector != nil {
				sameBits(t, "levels", got, vector)
			}
			vector = got
			for i := range got {
				_, mag := dot(x[i/nn*kk:][:kk], dense[i%nn*kk:][:kk])
				mag *= math.Abs(float64(factors[i%nn]))
				if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= 4e-6*mag+1e-30) {
					t.Fatalf("%s: element %d is %v, generic %v", lv, i, got[i], want[i])
				}
			}
		}
	})
}
