package kernel

import (
	"math"
	"testing"
)

// points are from small numbers of either sign to such as saturate.
func points() (x []float32) {
	for e := -40.0; e <= 6; e += 0.37 {
		x = append(x, float32(math.Exp2(e)), -float32(math.Exp2(e)))
	}
	return append(x, 0, 0.25, -0.25)
}

func near(t *testing.T, what string, x, got float32, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= tolerance*math.Abs(want)+1e-37) {
		t.Errorf("%s(%v) is %v, want %v", what, x, got, want)
	}
}

func TestSoftCap(t *testing.T) {
	const scale, c = 0.7, 3.0
	x := points()
	y := append([]float32(nil), x...)
	SoftCap(y, scale, c)
	grad := make([]float32, len(x))
	for i := range grad {
		grad[i] = float32(i%5) - 2
	}
	back := append([]float32(nil), grad...)
	SoftCapBack(back, y, scale, c)
	for i, v := range x {
		near(t, "SoftCap", v, y[i], c*math.Tanh(float64(float32(scale))*float64(v)/c), 1e-6)
		s := 1 / math.Cosh(float64(float32(scale))*float64(v)/c)
		if want := float64(grad[i]) * float64(float32(scale)) * s * s; math.Abs(float64(back[i])-want) > 2e-6*math.Abs(float64(grad[i])) {
			t.Errorf("SoftCapBack(%v) is %v, want %v", v, back[i], want)
		}
	}
	y = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}
	SoftCap(y, scale, c)
	if y[0] == y[0] || y[1] != c || y[2] != -c {
		t.Errorf("NaN and infinities become %v", y)
	}
}

func TestGELU(t *testing.T) {
	x := points()
	eachLevel(t, func(t *testing.T, _ string) {
		up, grad := make([]float32, len(x)), make([]float32, len(x))
		for i := range up {
			up[i], grad[i] = float32(i%7)-3, float32(i%4)-1.5
		}
		y := make([]float32, len(x))
		GELUMul(y, x, up)
		inPlace := append([]float32(nil), x...)
		GELUMul(inPlace, inPlace, up)
		gate, other := append([]float32(nil), x...), append([]float32(nil), up...)
		GELUMulBack(gate, other, grad)
		const k = 0.7978845608028654 // √(2/π)
		for i, v := range x {
			z := float64(v)
			th := math.Tanh(k * (z + geluCubic*z*z*z))
			gelu := z / 2 * (1 + th)
			slope := (1+th)/2 + z/2*(1-th*th)*k*(1+3*geluCubic*z*z)
			if math.Abs(float64(y[i])-gelu*float64(up[i])) > 2e-6*(math.Abs(z)*math.Abs(float64(up[i]))) || inPlace[i] != y[i] {
				t.Errorf("GELUMul(%v, %v) is %v and in place %v, want %v", v, up[i], y[i], inPlace[i], gelu*float64(up[i]))
			}
			if want := float64(grad[i]) * float64(up[i]) * slope; math.Abs(float64(gate[i])-want) > 4e-6*(1+math.Abs(want)) {
				t.Errorf("the gradient of gate %v is %v, want %v", v, gate[i], want)
			}
			if want := float64(grad[i]) * gelu; math.Abs(float64(other[i])-want) > 2e-6*(math.Abs(z)*math.Abs(float64(grad[i]))+1e-30) {
				t.Errorf("the gradient of up at %v is %v, want %v", v, other[i], want)
			}
		}
	})
}
