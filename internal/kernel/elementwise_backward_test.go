package kernel

import (
	"math"
	"testing"
)

// TestGradientOperations compares every operation of the backward pass with
// float64, and its levels with each other.
func TestGradientOperations(t *testing.T) {
	for _, n := range sizes {
		angles := scaled(n, 3, 9)
		cos, sin := make([]float32, n), make([]float32, n)
		for i, a := range angles {
			cos[i], sin[i] = float32(math.Cos(float64(a))), float32(math.Sin(float64(a)))
		}
		sameAcrossLevels(t, "RopeBack", 0, func() []float32 {
			a := scaled(2*n, 1, 8)
			b := append([]float32(nil), a...)
			Rope(b, cos, sin)
			RopeBack(b, cos, sin)
			for i := range a {
				if math.Abs(float64(a[i]-b[i])) > 1e-6*4 {
					t.Fatalf("RopeBack of Rope: %v, want %v", b[i], a[i])
				}
			}
			return b
		})
		x, y, g := scaled(n, 2, 1), scaled(n, 1, 2), scaled(n, 1, 3)
		sameAcrossLevels(t, "AddScaled", 1e-6, func() []float32 {
			d := append([]float32(nil), y...)
			AddScaled(d, x, 0.37)
			for i, v := range d {
				if want := float64(y[i]) + float64(float32(0.37))*float64(x[i]); math.Abs(float64(v)-want) > 1e-6*(1+math.Abs(want)) {
					t.Fatalf("AddScaled: %v, want %v", v, want)
				}
			}
			return d
		})
		sameAcrossLevels(t, "Dot", 1e-6, func() []float32 {
			got := Dot(x, y)
			if want, mag := dot(x, y); math.Abs(got-want) > 1e-14*mag {
				t.Fatalf("Dot of %d: %v, want %v", n, got, want)
			}
			return []float32{float32(got)}
		})
		sameAcrossLevels(t, "SiLUMulBack", 1e-5, func() []float32 {
			a, b := append([]float32(nil), x...), append([]float32(nil), y...)
			SiLUMulBack(a, b, append([]float32(nil), g...))
			for i := range a {
				s := 1 / (1 + math.Exp(-float64(x[i])))
				wantA := float64(g[i]) * float64(y[i]) * s * (1 + float64(x[i])*(1-s))
				wantB := float64(g[i]) * float64(x[i]) * s
				if math.Abs(float64(a[i])-wantA) > 2e-6*(1+math.Abs(wantA)) || math.Abs(float64(b[i])-wantB) > 1e-6*(1+math.Abs(wantB)) {
					t.Fatalf("SiLUMulBack: %v, %v, want %v, %v", a[i], b[i], wantA, wantB)
				}
			}
			return nil
		})
	}
}

// numeric returns the derivative of f by each of x, by central differences.
func numeric(x []float32, f func(x []float32) float64) []float64 {
	d := make([]float64, len(x))
	for i := range x {
		const h = 1.0 / 256
		at := func(v float32) float64 {
			c := append([]float32(nil), x...)
			c[i] = v
			return f(c)
		}
		hi, lo := x[i]+h, x[i]-h
		d[i] = (at(hi) - at(lo)) / float64(hi-lo)
	}
	return d
}

func TestBackwardOfNormAndSoftmax(t *testing.T) {
	eachLevel(t, func(t *testing.T, _ string) {
		for _, n := range []int{1, 5, 16, 33} {
			x, w, g := scaled(n, 1.5, 4), scaled(n, 1, 5), scaled(n, 1, 6)
			norm := numeric(x, func(x []float32) float64 {
				y := make([]float32, n)
				RMSNorm(y, x, w, 1e-3)
				return Dot(y, g)
			})
			got := scaled(n, 1, 7)
			before := append([]float32(nil), got...)
			RMSNormBack(got, append([]float32(nil), g...), x, w, 1e-3)
			for i, v := range got {
				if d := float64(v-before[i]) - norm[i]; math.Abs(d) > 2e-3*(1+math.Abs(norm[i])) {
					t.Fatalf("RMSNormBack of %d: %v, want %v", n, v-before[i], norm[i])
				}
			}
			soft := numeric(x, func(x []float32) float64 {
				Softmax(x, 0.7)
				return Dot(x, g)
			})
			p, grad := append([]float32(nil), x...), append([]float32(nil), g...)
			Softmax(p, 0.7)
			SoftmaxBack(grad, p, 0.7)
			for i, v := range grad {
				if math.Abs(float64(v)-soft[i]) > 1e-3 {
					t.Fatalf("SoftmaxBack of %d: %v, want %v", n, v, soft[i])
				}
			}
		}
	})
}
