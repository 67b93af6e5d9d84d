package kernel

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// digest returns a short hash of the bits of x.
func digest(x []float32) string {
	h := sha256.New()
	for _, v := range x {
		h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)))
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// fixedPoint returns n values between −4 and 4. They are exact, so that their bits do not depend on
// how a compiler rounds floating-point arithmetic.
func fixedPoint(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(int32(r.Uint32())>>9) / (1 << 20)
	}
	return x
}

// digests holds the digests of the results of the AVX2 and AVX-512 levels, which agree. A deliberate
// change of a kernel's order of operations changes them; the test prints the new ones.
var digests = map[string]string{
	"AddScaled":      "bf80e2f4e84605c4",
	"Mul BF16":       "4e8963e3418ec1f7",
	"Mul F16":        "1070ec24691ce1a1",
	"Mul F32":        "481e816401a44cd7",
	"Mul Int8":       "61dd1c28df63ec7c",
	"Mul LUT 1 bit":  "f131987c8fa2ce98",
	"Mul LUT 2 bit":  "3d4eb1add5da57eb",
	"Mul LUT 3 bit":  "ffd7e8ea93196e68",
	"Mul LUT 4 bit":  "f86fdbfa470ec4ce",
	"Mul LUT 6 bit":  "109f923cf5cd1895",
	"MulT BF16":      "733a80d7fcd7f9af",
	"MulT F16":       "af2822143d699927",
	"MulT F32":       "b9bb6d54bce786af",
	"MulT Int8":      "77b25d24877e9290",
	"MulT LUT 1 bit": "99d3761e8c1d064f",
	"MulT LUT 2 bit": "65c571b824888169",
	"MulT LUT 3 bit": "625de7bcdb129fd1",
	"MulT LUT 4 bit": "e8f4919cb2693eda",
	"MulT LUT 6 bit": "8a177e6e9810eb3f",
	"RMSNorm":        "903412a742908334",
	"Rope":           "b1e6146cc4a9fb01",
	"SiLUMul":        "1351ddbb47643e04",
	"SiLUMulBack":    "4b00ee574b68a269",
	"Softmax":        "224a0efe0c2ae91f",
	"SoftmaxBack":    "810586eed2940291",
	"exp":            "d01882307fadb9ab",
	"sums":           "3ec5932f6818ad44",
}

// TestSameBitsOnEveryMachine requires that the vector levels of all architectures give the same bits.
// TestMulTIsOneChain checks the sums against exact arithmetic; here the digests of one machine are
// the reference for the others.
func TestSameBitsOnEveryMachine(t *testing.T) {
	if len(vectorLevels()) == 0 {
		t.Skip("this machine has no vector level")
	}
	const n, k = 83, 2*blockK + 45
	before := Level()
	defer selectLevel(t, before)
	for _, level := range vectorLevels() {
		selectLevel(t, level)
		got := map[string]string{}
		for name, w := range fixedMatrices(n, k) {
			var y []float32
			for _, m := range []int{1, 2, 3, 5, 20} {
				y = append(y, product(2, fixedPoint(newRand(uint64(m)), m*k), m, w)...)
			}
			got["MulT "+name] = digest(y)
			p := NewPool(1)
			back := make([]float32, 7*k)
			p.Mul(back, fixedPoint(newRand(2), 7*n), 7, w)
			p.Close()
			got["Mul "+name] = digest(back)
		}
		for name, f := range fixedElementwise() {
			got[name] = digest(f())
		}
		if len(got) != len(digests) {
			t.Errorf("%d digests, %d expected", len(got), len(digests))
		}
		for name, d := range got {
			if digests[name] != d {
				t.Errorf("%s: %q: %q", level, name, d)
			}
		}
	}
}

// fixedMatrices returns one matrix [n, k] of every format.
func fixedMatrices(n, k int) map[string]*Matrix {
	r := newRand(30)
	half, bfloat, q := make([]uint16, n*k), make([]uint16, n*k), make([]int8, n*k)
	F32ToF16(half, fixedPoint(r, n*k))
	F32ToBF16(bfloat, fixedPoint(r, n*k))
	for i := range q {
		q[i] = int8(r.Uint32())
	}
	m := map[string]*Matrix{
		"F32":  PackF32(n, k, fixedPoint(r, n*k)),
		"F16":  PackF16(n, k, half),
		"BF16": PackBF16(n, k, bfloat),
		"Int8": PackInt8(n, k, q, fixedPoint(r, n)),
	}
	for _, bits := range []int{1, 2, 3, 4, 6} {
		s := stored{rows: n, cols: k, bits: bits, group: 16, indices: make([]byte, n*((k*bits+7)/8)),
			lut: make([]uint16, panelsOf(n)<<bits), rowScale: make([]uint16, n)}
		for i := range s.indices {
			s.indices[i] = byte(r.Uint32())
		}
		F32ToF16(s.lut, fixedPoint(r, len(s.lut)))
		F32ToF16(s.rowScale, fixedPoint(r, n))
		m[fmt.Sprintf("LUT %d bit", bits)] = s.pack()
	}
	return m
}

// fixedElementwise returns the element-wise operations, applied to fixed data.
func fixedElementwise() map[string]func() []float32 {
	const n = 1003
	x, y, z := fixedPoint(newRand(31), n), fixedPoint(newRand(32), n), fixedPoint(newRand(33), n)
	for i := range x {
		x[i] *= 8 // up to 32
	}
	in := func(f func(x []float32)) func() []float32 {
		return func() []float32 {
			c := append([]float32(nil), x...)
			f(c)
			return c
		}
	}
	return map[string]func() []float32{
		"exp":       in(func(c []float32) { copy(c, exps(c)) }),
		"Softmax":   in(func(c []float32) { Softmax(c, 0.375) }),
		"RMSNorm":   in(func(c []float32) { RMSNorm(c, c, y, 1e-6) }),
		"SiLUMul":   in(func(c []float32) { SiLUMul(c, c, y) }),
		"Rope":      in(func(c []float32) { Rope(c[:n&^1], y[:n/2], z[:n/2]) }),
		"AddScaled": in(func(c []float32) { AddScaled(c, y, 0.3) }),
		"SiLUMulBack": in(func(c []float32) {
			u := append([]float32(nil), y...)
			SiLUMulBack(c, u, z)
			Add(c, u)
		}),
		"SoftmaxBack": in(func(c []float32) { SoftmaxBack(c, y, 0.25) }),
		"sums": func() []float32 {
			var lse lanes
			sumExp(currentISA(), x[:vectorLen(n)], 3, &lse)
			return []float32{float32(Dot(x, y)), float32(KL(x, y, 34, 6)), float32(lse.sum())}
		},
	}
}
