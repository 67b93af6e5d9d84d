package grid

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/x448/float16"

	"afmq/pkg/safetensors"
)

// random returns random bytes for a matrix, with finite scales.
func random(r *rand.Rand, g Grid, rows, cols int) Data {
	data := allocate(g, rows, cols)
	for i, t := range g.Tensors(rows, cols) {
		for j := range data[i] {
			data[i][j] = byte(r.Uint32())
		}
		if t.DType == safetensors.F16 || t.DType == safetensors.BF16 {
			for j := 0; j < len(data[i]); j += 2 {
				data[i][j+1] = byte(0x30 + r.IntN(0x08)) // of about 1, in both types
			}
		}
	}
	return data
}

// value reads a 16-bit float.
func value(t safetensors.DType, b []byte) float64 {
	bits := binary.LittleEndian.Uint16(b)
	if t == safetensors.BF16 {
		// A bfloat16 is a float with 8 bits of exponent and 7 of mantissa.
		return float64(1+float64(bits&0x7f)/128) * pow2(int(bits>>7&0xff)-127)
	}
	return float64(float16.Frombits(bits).Float32())
}

func pow2(n int) float64 {
	x := 1.0
	for ; n > 0; n-- {
		x *= 2
	}
	for ; n < 0; n++ {
		x /= 2
	}
	return x
}

// The weights are those of the formulas in the documentation of the grids, with the codes read one
// bit after another.
func TestWeights(t *testing.T) {
	const rows, cols = 21, 256
	r := rand.New(rand.NewPCG(21, 22))
	for _, g := range grids() {
		if _, block := g.(Block); block {
			continue // package ggml tests them against ggml
		}
		data := random(r, g, rows, cols)
		weights, err := g.Weights(data, rows, cols)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, 5*cols)
		if err := weights(got, 9, 14); err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if want := weightAt(g, data, cols, 9+i/cols, i%cols); v != want {
				t.Fatalf("%v: row %d, column %d: %v, want %v", g, 9+i/cols, i%cols, v, want)
			}
		}
	}
}

// weightAt computes one weight.
func weightAt(g Grid, data Data, cols, row, col int) float32 {
	bit := func(b []byte, i int) int { return int(b[i/8] >> (i % 8) & 1) }
	code := func(b []byte, first, n int) (c int) {
		for i := range n {
			c |= bit(b, first+i) << i
		}
		return c
	}
	switch g := g.(type) {
	case Affine:
		at := 2 * (row*(cols/g.Group) + col/g.Group)
		q := code(data[0], (row*cols+col)*g.Bits, g.Bits)
		// The product is exact in float64; the sum is rounded once.
		return float32(value(g.Scales, data[1][at:])*float64(q) + value(g.Scales, data[2][at:]))
	case Integer:
		groups, k := 1, 0
		if g.Group > 0 {
			groups, k = cols/g.Group, col/g.Group
		}
		words := (cols*g.Bits + 31) / 32
		q := code(data[0][4*row*words:], col*g.Bits, g.Bits)
		zero := 1 << (g.Bits - 1)
		if g.ZeroPoint {
			var column []byte // the words of the group
			for w := k; 4*w < len(data[2]); w += groups {
				column = append(column, data[2][4*w:4*w+4]...)
			}
			zero = code(column, row*g.Bits, g.Bits)
		}
		return float32(value(g.Scales, data[1][2*(row*groups+k):]) * float64(q-zero))
	}
	return 0
}

// What Quantize stores has the shapes of Tensors, and Parse knows every name.
func TestNames(t *testing.T) {
	for _, g := range grids() {
		scales := safetensors.F16
		for _, x := range g.Tensors(64, 512) {
			if x.DType == safetensors.BF16 {
				scales = x.DType
			}
		}
		again, ok := Parse(g.String(), scales)
		if !ok || again.String() != g.String() || again.Tensors(64, 512)[0].Name != "."+g.String() {
			t.Errorf("%v is read as %v, %v", g, again, ok)
		}
		w := make([]float32, 3*512)
		for i := range w {
			w[i] = float32(i%17) - 8
		}
		data, _, err := g.Quantize(nil, Source{F32: w}, 3, 512, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkData(g, data, 3, 512); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "palette", "affine4", "affine4_g16", "affine04_g64", "affine7_g64", "symmetric4_g128x", "symmetric_row", "Q4_K", "f16", "asymmetric9_row"} {
		if g, ok := Parse(name, safetensors.F16); ok {
			t.Errorf("%q is read as %v", name, g)
		}
	}
}

// Groups of equal weights, and of zeros, are exact, however few bits there are.
func TestConstantGroups(t *testing.T) {
	for _, g := range grids() {
		if _, block := g.(Block); block {
			continue
		}
		w := make([]float32, 256)
		if _, affine := g.(Affine); affine {
			for i := range w[:128] {
				w[i] = 0.75
			}
		}
		data, report, err := g.Quantize(nil, Source{F32: w}, 1, 256, nil)
		if err != nil {
			t.Fatal(err)
		}
		if e := weightError(t, g, data, w, 1, 256); e != 0 || report.SquaredError != 0 {
			t.Errorf("%v: error %v, reported %v", g, e, report.SquaredError)
		}
	}
}

// Weights whose differences are smaller than the smallest scale, or near the largest value of the
// type, are not stored as zeros.
func TestExtremeWeights(t *testing.T) {
	for _, c := range []struct {
		low, high float32
		most      float64 // relative squared error
		grids     []Grid
	}{
		{0.0005002, 0.00050068, 1e-6, []Grid{Affine{Bits: 8, Group: 32}, Affine{Bits: 2, Group: 32}}},
		{0.01, 0.0100001, 1e-6, []Grid{Affine{Bits: 8, Group: 32}}},
		{-1e38, 0.9e38, 0.1, []Grid{Affine{Bits: 4, Group: 32, Scales: safetensors.BF16}, Integer{Bits: 4, Scales: safetensors.BF16}, Integer{Bits: 4, ZeroPoint: true, Scales: safetensors.BF16}}},
		{-3e-7, 4e-7, 0.2, []Grid{Affine{Bits: 8, Group: 32}, Integer{Bits: 4}, Integer{Bits: 8, ZeroPoint: true}}},
	} {
		w := make([]float32, 64)
		for i := range w {
			w[i] = c.low*(float32(63-i)/63) + c.high*(float32(i)/63)
		}
		for _, g := range c.grids {
			data, _, err := g.Quantize(nil, Source{F32: w}, 1, 64, nil)
			if err != nil {
				t.Fatal(err)
			}
			norm := 0.0
			for _, v := range w {
				norm += float64(v) * float64(v)
			}
			if e := weightError(t, g, data, w, 1, 64) / norm; !(e < c.most) {
				t.Errorf("%v of weights from %v to %v: relative squared error %v", g, c.low, c.high, e)
			}
		}
	}
}

// A grid that cannot store the columns says so instead of computing weights.
func TestWeightsChecksGrid(t *testing.T) {
	for g, cols := range map[Grid]int{Affine{Bits: 4, Group: 64}: 100, Affine{}: 64, Integer{Bits: 4, Group: 64}: 100, Integer{}: 64, Palette{}: 64} {
		if _, err := g.Weights(nil, 1, cols); err == nil {
			t.Errorf("%v: %d columns are accepted", g, cols)
		}
	}
}

func TestCheckPadding(t *testing.T) {
	g := Integer{Bits: 3, ZeroPoint: true}
	w := make([]float32, 5*20)
	for i := range w {
		w[i] = float32(i%7) - 2
	}
	data, _, err := g.Quantize(nil, Source{F32: w}, 5, 20, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.CheckPadding(data, 5, 20); err != nil {
		t.Fatal(err)
	}
	data[0][3*8+7] |= 1 << 7 // 60 bits of 64
	if err := g.CheckPadding(data, 5, 20); err == nil || !strings.Contains(err.Error(), "row 3") {
		t.Errorf("a bit after a row: %v", err)
	}
	data[0][3*8+7] = 0
	data[2][1] |= 1 << 7 // 15 bits of 32
	if err := g.CheckPadding(data, 5, 20); err == nil || !strings.Contains(err.Error(), "group 0") {
		t.Errorf("a bit after the zero points: %v", err)
	}
}
