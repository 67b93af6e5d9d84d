package kernel

import (
	"fmt"
	"math"
	"math/big"
	"testing"
)

var sizes = []int{0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 100, 257, 1000}

// scaled returns n normal values times s.
func scaled(n int, s float32, seed uint64) []float32 {
	x := normals(newRand(seed), n)
	for i := range x {
		x[i] *= s
	}
	return x
}

// sameAcrossLevels runs f at every level. The vector levels must give the same bits; the generic level
// must agree within tol relative, or have the same bits if tol is 0.
func sameAcrossLevels(t *testing.T, what string, tol float64, f func() []float32) {
	t.Helper()
	before := Level()
	defer selectLevel(t, before)
	selectLevel(t, "generic")
	want := f()
	var vector []float32
	for _, lv := range vectorLevels() {
		selectLevel(t, lv)
		got := f()
		if vector != nil {
			sameBits(t, what+": vector levels", got, vector)
		}
		vector = got
		if tol == 0 {
			sameBits(t, what+": "+lv+" and Go", got, want)
			continue
		}
		for i, v := range got {
			if v != v && want[i] != want[i] || v == want[i] {
				continue
			}
			if d := math.Abs(float64(v) - float64(want[i])); !(d <= tol*math.Abs(float64(want[i]))+1e-44) {
				t.Fatalf("%s: %s gives %v for element %d, Go %v", what, lv, v, i, want[i])
			}
		}
	}
}

// exps returns e^x, computed by the softmax kernel of the level in use without a subtraction.
func exps(x []float32) []float32 {
	y := append([]float32(nil), x...)
	for len(y)%16 != 0 {
		y = append(y, 0)
	}
	var total lanes
	expSum(currentISA(), y, 0, &total)
	return y[:len(x)]
}

func TestExp(t *testing.T) {
	var x []float32
	for v := float32(-106); v < 90; v += 0.0009765625 * 3.1 {
		x = append(x, v)
	}
	x = append(x, 0, float32(math.Copysign(0, -1)), 1e-30, -1e-30, 88.72283, 88.7229, -103.9, -104, -1e30, 1e30)
	eachLevel(t, func(t *testing.T, _ string) {
		worst := 0.0
		for i, got := range exps(x) {
			want := math.Exp(float64(x[i]))
			switch {
			case want > math.MaxFloat32:
				if !math.IsInf(float64(got), 1) {
					t.Fatalf("e^%v is %v, want +Inf", x[i], got)
				}
			case want < 0x1p-126: // gradual underflow
				if d := math.Abs(float64(got) - want); d > 0x1p-149 {
					t.Fatalf("e^%v is %v, want %v", x[i], got, want)
				}
			default:
				worst = max(worst, math.Abs(float64(got)/want-1))
			}
		}
		if worst > 1.2e-7 {
			t.Errorf("largest relative error of the exponential is %.3g", worst)
		}
		special := exps([]float32{0, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())})
		if special[0] != 1 || !math.IsInf(float64(special[1]), 1) || special[2] != 0 || special[3] == special[3] {
			t.Errorf("e^{0, +Inf, -Inf, NaN} = %v", special)
		}
	})
	// The Go twin emulates fused operations, with an error of at most one unit in the last place.
	sameAcrossLevels(t, "exp", 1.2e-7, func() []float32 { return exps(x) })
}

func TestSoftmax(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		for _, n := range sizes[1:] {
			for _, scale := range []float32{1, 0.125, -2} {
				x := scaled(n, 5, uint64(n))
				y := append([]float32(nil), x...)
				Softmax(y, scale)
				var sum, top float64 = 0, math.Inf(-1)
				for _, v := range x {
					top = max(top, float64(v)*float64(scale))
				}
				for _, v := range x {
					sum += math.Exp(float64(v)*float64(scale) - top)
				}
				for i, v := range y {
					want := math.Exp(float64(x[i])*float64(scale)-top) / sum
					if d := math.Abs(float64(v) - want); !(d <= 3e-6*want+1e-40) {
						t.Fatalf("n %d, scale %v: element %d is %v, want %v", n, scale, i, v, want)
					}
				}
			}
		}
	})
	for _, n := range sizes {
		sameAcrossLevels(t, "Softmax", 1e-6, func() []float32 {
			y := scaled(n, 5, uint64(n))
			Softmax(y, 0.3)
			return y
		})
	}
}

// TestSoftmaxMasked checks a property that causal attention needs: entries of −Inf after, before and
// between the others change no bit of them.
func TestSoftmaxMasked(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		r := newRand(20)
		for range 300 {
			n := 1 + r.IntN(200)
			short := scaled(n, 4, r.Uint64())
			long := append([]float32(nil), short...)
			for range r.IntN(70) {
				long = append(long, negInf)
			}
			Softmax(short, 0.7)
			Softmax(long, 0.7)
			sameBits(t, "masked softmax", long[:n], short)
			for _, v := range long[n:] {
				if v != 0 {
					t.Fatalf("a masked entry became %v", v)
				}
			}
		}
	})
}

func TestSoftmaxUndefined(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	eachLevel(t, func(t *testing.T, _ string) {
		Softmax(nil, 1)
		for name, x := range map[string][]float32{
			"all -Inf": {negInf, negInf, negInf}, "NaN": {1, nan, 2}, "+Inf": {1, inf}, "NaN and -Inf": {nan, negInf},
			"long": append(scaled(40, 1, 1), nan),
		} {
			Softmax(x, 0.5)
			for i, v := range x {
				if v == v {
					t.Errorf("%s: element %d is %v, want NaN", name, i, v)
				}
			}
		}
	})
}

func TestLogSumExp(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		for _, n := range []int{1, 3, 16, 50, 4096, 151937} {
			for _, offset := range []float32{0, 1000, -1000} {
				x := scaled(n, 3, uint64(n))
				top := math.Inf(-1)
				for i := range x {
					x[i] += offset
					top = max(top, float64(x[i]))
				}
				var sum float64
				for _, v := range x {
					sum += math.Exp(float64(v) - top)
				}
				want := top + math.Log(sum)
				if d := math.Abs(LogSumExp(x) - want); d > 1e-7 {
					t.Errorf("n %d offset %v: error %.3g", n, offset, d)
				}
			}
		}
		nan, inf := float32(math.NaN()), float32(math.Inf(1))
		for _, x := range [][]float32{nil, {negInf}, {negInf, negInf}} {
			if v := LogSumExp(x); !math.IsInf(v, -1) {
				t.Errorf("LogSumExp(%v) = %v, want -Inf", x, v)
			}
		}
		for _, x := range [][]float32{{nan}, {negInf, nan}, {1, nan, 3}, {inf, 1}, append(scaled(64, 1, 1), nan)} {
			if v := LogSumExp(x); v == v {
				t.Errorf("LogSumExp(%v) = %v, want NaN", x, v)
			}
		}
		if v := LogSumExp([]float32{negInf, 2.5, negInf}); v != 2.5 {
			t.Errorf("LogSumExp of one finite element = %v", v)
		}
	})
}

// klExact returns the divergence of the softmax of q from that of p, computed with 200 bits.
func klExact(p, q []float32) float64 {
	// In float64, in a form that avoids cancellation: with d = p−q,
	// KL = Σ P·d + log Σ P·e^−d, where the logarithm of a sum near one is
	// log1p(Σ P·expm1(−d)).
	n := len(p)
	sum := new(big.Float).SetPrec(200)
	ps := make([]float64, n)
	for i, v := range p {
		ps[i] = math.Exp(float64(v) - float64(p[0]))
		sum.Add(sum, big.NewFloat(ps[i]))
	}
	s, _ := sum.Float64()
	mean, shift := new(big.Float).SetPrec(200), new(big.Float).SetPrec(200)
	base := float64(p[0]) - float64(q[0])
	for i := range p {
		d := float64(p[i]) - float64(q[i]) - base
		mean.Add(mean, big.NewFloat(ps[i]/s*d))
		shift.Add(shift, big.NewFloat(ps[i]/s*math.Expm1(-d)))
	}
	a, _ := mean.Float64()
	b, _ := shift.Float64()
	return a + math.Log1p(b)
}

func TestKL(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		for _, n := range []int{2, 16, 33, 4096, 20001} {
			for _, noise := range []float32{1e-6, 1e-4, 1e-2, 0.1, 0.5, 2, 8} {
				p := scaled(n, 3, 1)
				q := scaled(n, noise, 2)
				for i := range q {
					q[i] += p[i]
				}
				want := klExact(p, q)
				got := KL(p, q, LogSumExp(p), LogSumExp(q))
				if d := math.Abs(got - want); !(d <= 3e-6*want+2e-12) {
					t.Errorf("n %d, noise %v: %.10g, want %.10g", n, noise, got, want)
				}
				// Errors of 1e-6 in the log-sum-exps must have no effect where p and q agree.
				if off := KL(p, q, LogSumExp(p)+1e-6, LogSumExp(q)-1e-6); math.Abs(off-got) > 1e-5*got+1e-11 {
					t.Errorf("n %d, noise %v: %.10g with inexact normalizers, %.10g without", n, noise, off, got)
				}
			}
			p := scaled(n, 3, 1)
			if got := KL(p, p, LogSumExp(p), LogSumExp(p)); got != 0 {
				t.Errorf("the divergence of a distribution from itself is %v", got)
			}
		}
		nan := float32(math.NaN())
		for _, c := range []struct {
			p, q []float32
			want float64
		}{
			{[]float32{0, negInf}, []float32{0, negInf}, 0},
			{[]float32{0, negInf}, []float32{0, 0}, math.Ln2},
			{[]float32{0, 0}, []float32{0, negInf}, math.Inf(1)},
			{[]float32{0, 0}, []float32{0, nan}, math.NaN()},
			{[]float32{nan, 0}, []float32{0, 0}, math.NaN()},
		} {
			got := KL(c.p, c.q, LogSumExp(c.p), LogSumExp(c.q))
			if !(math.Abs(got-c.want) < 1e-7 || got == c.want || got != got && c.want != c.want) {
				t.Errorf("KL(%v, %v) = %v, want %v", c.p, c.q, got, c.want)
			}
		}
	})
}

func TestNormAndGate(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		for _, n := range sizes {
			x, w := scaled(n, 2, 1), scaled(n, 1, 2)
			got := make([]float32, n)
			RMSNorm(got, x, w, 1e-6)
			var sq float64
			for _, v := range x {
				sq += float64(v) * float64(v)
			}
			inv := 1 / math.Sqrt(sq/float64(n)+1e-6)
			for i, v := range got {
				want := float64(x[i]) * inv * float64(w[i])
				if math.Abs(float64(v)-want) > 3e-7*math.Abs(want) {
					t.Fatalf("RMSNorm n %d: element %d is %v, want %v", n, i, v, want)
				}
			}
			gate := scaled(n, 20, 3)
			SiLUMul(got, gate, w)
			for i, v := range got {
				g := float64(gate[i])
				want := g / (1 + math.Exp(-g)) * float64(w[i])
				if math.Abs(float64(v)-want) > 4e-7*math.Abs(want)+1e-37 {
					t.Fatalf("SiLUMul n %d: element %d is %v, want %v", n, i, v, want)
				}
			}
			inPlace := append([]float32(nil), gate...)
			SiLUMul(inPlace, inPlace, w)
			sameBits(t, "SiLUMul in place", inPlace, got)
		}
	})
	for _, n := range sizes {
		what := fmt.Sprint(n, " elements")
		sameAcrossLevels(t, "RMSNorm "+what, 0, func() []float32 {
			y := scaled(n, 2, 1)
			RMSNorm(y, y, scaled(n, 1, 2), 1e-5)
			return y
		})
		sameAcrossLevels(t, "SiLUMul "+what, 1e-6, func() []float32 {
			y := scaled(n, 20, 1)
			SiLUMul(y, y, scaled(n, 1, 2))
			return y
		})
		sameAcrossLevels(t, "Rope "+what, 0, func() []float32 {
			y := scaled(2*n, 20, 1)
			Rope(y, scaled(n, 1, 2), scaled(n, 1, 3))
			return y
		})
		sameAcrossLevels(t, "Add "+what, 0, func() []float32 {
			y := scaled(n, 20, 1)
			Add(y, scaled(n, 1, 2))
			return y
		})
	}
}

func TestRope(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		for _, half := range sizes {
			x, angle := scaled(2*half, 1, 1), scaled(half, 3, 2)
			cos, sin := make([]float32, half), make([]float32, half)
			for i, a := range angle {
				cos[i], sin[i] = float32(math.Cos(float64(a))), float32(math.Sin(float64(a)))
			}
			y := append([]float32(nil), x...)
			Rope(y, cos, sin)
			for i := range half {
				// A rotation of the plane, in complex arithmetic.
				z := complex(float64(x[i]), float64(x[i+half])) * complex(float64(cos[i]), float64(sin[i]))
				if math.Abs(float64(y[i])-real(z)) > 1e-6 || math.Abs(float64(y[i+half])-imag(z)) > 1e-6 {
					t.Fatalf("pair %d of %d is (%v, %v), want %v", i, half, y[i], y[i+half], z)
				}
			}
		}
	})
}

// slopesAgree requires that the levels of SiLUMulBack agree. Where the derivative of silu is near zero
// its terms cancel, so that the error is taken relative to the product of the other factors.
func slopesAgree(t *testing.T, gate, up []float32) {
	t.Helper()
	before := Level()
	defer selectLevel(t, before)
	back := func(level string) (a, b []float32) {
		selectLevel(t, level)
		a, b = append([]float32(nil), gate...), append([]float32(nil), up...)
		SiLUMulBack(a, b, up)
		return a, b
	}
	wantA, wantB := back("generic")
	near := func(level string, got, want, size float32) {
		d := math.Abs(float64(got) - float64(want))
		if got != want && (got == got || want == want) && !(d <= 4e-6*math.Abs(float64(size))+1e-44*(1+math.Abs(float64(size)))) {
			t.Fatalf("SiLUMulBack: %s gives %v, Go %v", level, got, want)
		}
	}
	for _, level := range vectorLevels() {
		a, b := back(level)
		for i := range a {
			near(level, a[i], wantA[i], up[i]*up[i])
			near(level, b[i], wantB[i], gate[i]*up[i])
		}
	}
}

// FuzzElementwise compares the levels on arbitrary bits.
func FuzzElementwise(f *testing.F) {
	f.Add(uint32(0x3f800000), uint32(0x00012345), uint16(40))
	f.Add(uint32(0x7f7fffff), uint32(0x01000001), uint16(17))
	f.Add(uint32(0xff800000), uint32(0), uint16(33))
	f.Fuzz(func(t *testing.T, start, step uint32, size uint16) {
		n := int(size) % 100
		x, w := make([]float32, n), make([]float32, n)
		for i := range x {
			x[i] = math.Float32frombits(start + uint32(i)*step)
			w[i] = math.Float32frombits(step ^ uint32(i)*start)
		}
		exact := map[string]func() []float32{
			"RMSNorm": func() []float32 {
				y := make([]float32, n)
				RMSNorm(y, x, w, 1e-6)
				return y
			},
			"Add": func() []float32 {
				y := append([]float32(nil), x...)
				Add(y, w)
				return y
			},
			"Rope": func() []float32 {
				y := append([]float32(nil), x[:n&^1]...)
				Rope(y, w[:n/2], w[n-n/2:])
				return y
			},
			"mulTo": func() []float32 {
				y := append([]float32(nil), x...)
				mulBy(currentISA(), y, w)
				return y
			},
			"subMul": func() []float32 {
				y := append([]float32(nil), x...)
				subMul(currentISA(), y[:vectorLen(n)], w[:vectorLen(n)], 0.3)
				return y
			},
			"maxima": func() []float32 {
				y := append([]float32(nil), x...)
				var plain, scaled [16]float32
				maxOf(currentISA(), y[:vectorLen(n)], &plain)
				scaleMax(currentISA(), y[:vectorLen(n)], -0.3, &scaled)
				return append(append(y, plain[:]...), scaled[:]...)
			},
			"Dot": func() []float32 {
				// As two float32, so that every bit of the sum is compared.
				d := Dot(x, w)
				return []float32{float32(d), float32(d - float64(float32(d)))}
			},
			"mulScalar": func() []float32 {
				y := append([]float32(nil), x...)
				mulScalar(currentISA(), y[:vectorLen(n)], 0.3)
				return y
			},
		}
		for name, g := range exact {
			sameAcrossLevels(t, name, 0, g)
		}
		near := map[string]func() []float32{
			"exp": func() []float32 { return exps(x) },
			"sumExp": func() []float32 {
				var total lanes
				sumExp(currentISA(), x[:vectorLen(n)], 0, &total)
				return []float32{float32(total.sum())}
			},
			"AddScaled": func() []float32 {
				y := append([]float32(nil), x...)
				AddScaled(y, w, 0.3)
				return y
			},
			"SiLUMul": func() []float32 {
				y := append([]float32(nil), x...)
				SiLUMul(y, y, w)
				return y
			},
			"Softmax": func() []float32 {
				y := append([]float32(nil), x...)
				Softmax(y, 0.5)
				return y
			},
			"LogSumExp": func() []float32 { return []float32{float32(LogSumExp(x))} },
			"KL": func() []float32 {
				return []float32{float32(KL(x, w, LogSumExp(x), LogSumExp(w)))}
			},
		}
		for name, g := range near {
			sameAcrossLevels(t, name, 2e-6, g)
		}
		slopesAgree(t, x, w)
	})
}
