package kernel

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// transposed returns the transpose of w [n, k].
func transposed(w []float32, n, k int) []float32 {
	t := make([]float32, len(w))
	for i := range n {
		for j := range k {
			t[j*n+i] = w[i*k+j]
		}
	}
	return t
}

// TestMulIsMulTOfTheTranspose compares Mul with MulT of the transpose bit by bit, for every format and
// for sizes near every block boundary.
func TestMulIsMulTOfTheTranspose(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		r := newRand(11)
		for _, n := range []int{1, 15, 16, 40, 270} {
			for _, k := range []int{1, 7, 16, 33, 128, 150} {
				w := normals(r, n*k)
				half := make([]uint16, len(w))
				lut := make([]uint16, (n+15)/16*16)
				for i := range half {
					half[i] = uint16(r.Uint32()) & 0xbbff
				}
				for i := range lut {
					lut[i] = uint16(r.Uint32()) & 0xbbff
				}
				q, scale := make([]int8, n*k), make([]float32, n)
				for i := range q {
					q[i] = int8(r.Uint32())
				}
				for i := range scale {
					scale[i] = r.Float32()
				}
				indices := make([]byte, n*((k+1)/2))
				for i := range indices {
					indices[i] = byte(r.Uint32())
					if k%2 == 1 && (i+1)%((k+1)/2) == 0 {
						indices[i] &= 15
					}
				}
				for name, m := range map[string]*Matrix{
					"F32": PackF32(n, k, w), "F16": PackF16(n, k, half), "int8": PackInt8(n, k, q, scale),
					"LUT": PackLUT(n, k, 4, 16, indices, lut, nil),
				} {
					dense := make([]float32, n*k)
					for i := range n {
						m.Row(dense[i*k:(i+1)*k], i)
					}
					wt := PackF32(k, n, transposed(dense, n, k))
					for _, rows := range []int{1, 5, 20} {
						x := normals(r, rows*n)
						got, want := make([]float32, rows*k), make([]float32, rows*k)
						for _, threads := range []int{1, 3} {
							p := NewPool(threads)
							p.Mul(got, x, rows, m)
							p.MulT(want, x, rows, wt)
							p.Close()
							sameBits(t, name, got, want)
						}
					}
				}
			}
		}
	})
}

// TestAddingProducts compares MulTAdd and MulAdd with a product followed by a sum. Both round equally
// if the summed dimension is one block.
func TestAddingProducts(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		r := newRand(12)
		for _, n := range []int{1, 8, 16, 40, 250} {
			for _, k := range []int{1, 16, 33, 250} {
				w := PackF32(n, k, normals(r, n*k))
				for _, rows := range []int{0, 1, 5, 20} {
					for _, threads := range []int{1, 3} {
						p := NewPool(threads)
						add := func(name string, in, out int, product, adding func(y, x []float32, m int, w *Matrix)) {
							x, got := normals(r, rows*in), normals(r, rows*out)
							want := make([]float32, rows*out)
							product(want, x, rows, w)
							for i := range want {
								want[i] = got[i] + want[i]
							}
							adding(got, x, rows, w)
							sameBits(t, name, got, want)
						}
						add("MulTAdd", k, n, p.MulT, p.MulTAdd)
						add("MulAdd", n, k, p.Mul, p.MulAdd)
						p.Close()
					}
				}
			}
		}
		p := NewPool(1)
		defer p.Close()
		y := []float32{1, 2, 3}
		p.MulTAdd(y, nil, 1, PackF32(3, 0, nil)) // nothing to add
		sameBits(t, "no columns", y, []float32{1, 2, 3})
	})
}

func TestMulTPart(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		r := newRand(12)
		const n, k, m = 75, 600, 17
		w, x := normals(r, n*k), normals(r, m*k)
		packed := PackF32(n, k, w)
		p := NewPool(3)
		sameBits(t, "Pool.PackF32", p.PackF32(n, k, w).f32, packed.f32)
		p.Close()
		var s Scratch
		for _, part := range [][4]int{{0, n, 0, k}, {16, 59, 3, 257}, {64, 11, 599, 1}, {32, 16, 100, 300}} {
			row0, rows, col0, cols := part[0], part[1], part[2], part[3]
			for _, add := range []bool{false, true} {
				y := normals(r, m*n+2)
				before := append([]float32(nil), y...)
				s.MulTPart(m, x[col0:], k, packed, row0, rows, col0, cols, y[2:], n, add)
				for i, v := range y {
					want, mag := float64(before[i]), math.Abs(float64(before[i]))
					if c := i - 2; c >= 0 && c%n < rows && c/n < m {
						sum, size := dot(x[c/n*k+col0:][:cols], w[(row0+c%n)*k+col0:][:cols])
						if add {
							want, mag = want+sum, mag+size
						} else {
							want, mag = sum, size
						}
					}
					if math.Abs(float64(v)-want) > 2e-6*mag {
						t.Fatalf("part %v, add %v: element %d is %v, want %v", part, add, i, v, want)
					}
				}
			}
		}
	})
}

func TestGram(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		r := newRand(13)
		for _, d := range []int{7, 15, 85, 200} {
			const n = 300
			x := normals(r, n*d)
			var first []float32
			for _, threads := range []int{1, 3} {
				h := make([]float32, d*d)
				p := NewPool(threads)
				p.AddGram(h, x[:100*d], 100, d)
				p.AddGram(h, x[100*d:], n-100, d)
				p.Close()
				Symmetrize(h, d)
				cross := make([]float32, 7*d)
				q := NewPool(threads)
				q.AddCross(cross, x[:n*7], x, n, 7, d)
				q.Close()
				for i, v := range cross {
					want := 0.0
					for k := range n {
						want += float64(x[k*7+i/d]) * float64(x[k*d+i%d])
					}
					if math.Abs(float64(v)-want) > 1e-3 {
						t.Fatalf("AddCross: element %d is %v, want %v", i, v, want)
					}
				}
				if first == nil {
					first = h
				}
				sameBits(t, "threads", h, first)
			}
			xt := transposed(x, n, d)
			for i, v := range first {
				want, mag := dot(xt[i/d*n:][:n], xt[i%d*n:][:n])
				if math.Abs(float64(v)-want) > 1e-5*mag {
					t.Fatalf("d %d: element %d is %v, want %v", d, i, v, want)
				}
			}
		}
	})
}

// TestCholesky compares the factor with gonum's.
func TestCholesky(t *testing.T) {
	eachLevel(t, func(t *testing.T, level string) {
		r := newRand(14)
		for _, n := range []int{1, 2, 37, 128, 129, 300, 401} {
			x := normals(r, 2*n*n)
			a, dense := make([]float32, n*n), mat.NewSymDense(n, nil)
			p := NewPool(2)
			p.AddGram(a, x, 2*n, n)
			Symmetrize(a, n)
			for i := range n {
				for j := i; j < n; j++ {
					dense.SetSym(i, j, float64(a[i*n+j]))
				}
			}
			var want mat.Cholesky
			if !want.Factorize(dense) {
				t.Fatal("gonum cannot factor it")
			}
			var l mat.TriDense
			want.LTo(&l)
			if !p.Cholesky(a, n) {
				t.Fatalf("n %d: said not to be positive definite", n)
			}
			p.Close()
			for i := range n {
				for j := range i + 1 {
					if d := math.Abs(float64(a[i*n+j]) - l.At(i, j)); d > 3e-5*l.At(i, i) {
						t.Fatalf("n %d: L[%d][%d] is %v, gonum has %v", n, i, j, a[i*n+j], l.At(i, j))
					}
				}
			}
		}
	})
}

func TestCholeskyRefuses(t *testing.T) {
	p := NewPool(1)
	defer p.Close()
	const n = 200
	for _, bad := range []float32{0, -1, float32(math.NaN()), float32(math.Inf(1))} {
		for _, at := range []int{0, 5, 150, n - 1} {
			a := make([]float32, n*n)
			for i := range n {
				a[i*n+i] = 2
			}
			a[at*n+at] = bad
			if p.Cholesky(a, n) {
				t.Errorf("a pivot of %v at %d is accepted", bad, at)
			}
		}
	}
}
