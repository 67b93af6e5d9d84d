package ggml

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// Blocks of every type have the weights that ggml dequantizes them to, bit by bit. Some have
// scales that are infinite or NaN.
func TestDequantize(t *testing.T) {
	seen := map[Type]bool{}
	for r := openRecords(t, "blocks.bin.gz"); len(r.data) > 0; {
		kind, blocks := Type(r.integer()), r.integer()
		seen[kind] = true
		data := r.bytes(blocks * kind.BlockBytes())
		want := r.floats(blocks * kind.BlockWeights())
		got := make([]float32, len(want))
		if err := kind.Dequantize(got, data); err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			// Which NaN a product has depends on the processor.
			if math.Float32bits(got[i]) != math.Float32bits(w) && (got[i] == got[i] || w == w) {
				t.Fatalf("%v: weight %d of block %d is %v (%#x), ggml has %v (%#x)", kind, i%kind.BlockWeights(),
					i/kind.BlockWeights(), got[i], math.Float32bits(got[i]), w, math.Float32bits(w))
			}
		}
	}
	if len(seen) != len(Types())-1 { // F32 is copied
		t.Errorf("the test data has the types %v", seen)
	}
}

// The fields of a block, whatever its bytes, give the same bytes back, and the weights of the
// fields are those of the bytes.
func TestPackIsInverse(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, kind := range codeTypes() {
		b := Block{Type: kind}
		src, dst := make([]byte, kind.BlockBytes()), make([]byte, kind.BlockBytes())
		weights := make([]float32, kind.BlockWeights())
		least, most := kind.ScaleRange()
		for range 200 {
			for i := range src {
				src[i] = byte(rng.Uint32())
			}
			b.Unpack(src)
			b.Pack(dst)
			if !bytes.Equal(src, dst) {
				t.Fatalf("%v: %x became %x", kind, src, dst)
			}
			if err := kind.Dequantize(weights, src); err != nil {
				t.Fatal(err)
			}
			for i, w := range weights {
				part := i / kind.PartWeights()
				if s := int(b.Scales[part]); s < least || s > most || int(b.Mins[part]) > kind.MaxMin() || int(b.Codes[i]) >= kind.Codes() {
					t.Fatalf("%v: a field of weight %d is out of range", kind, i)
				}
				if v := kind.Value(b.Codes[i], b.Step(part)); v != w && (v == v || w == w) {
					t.Fatalf("%v: the value of weight %d is %v, not %v", kind, i, v, w)
				}
			}
		}
	}
}

// Nearest finds the code that a search among all finds.
func TestNearest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, kind := range codeTypes() {
		_, lowest := kind.Nearest(-math.MaxFloat32, Step{Scale: 1})
		for _, s := range []Step{{0.01, 0}, {-0.02, 0.3}, {1e-7, 1e-6}, {3, -20}} {
			for range 300 {
				w := (float32(rng.NormFloat64())*float32(kind.Codes()))*s.Scale - s.Offset
				code, value := kind.Nearest(w, s)
				if value != kind.Value(code, s) {
					t.Fatalf("%v: code %d has the value %v, not %v", kind, code, kind.Value(code, s), value)
				}
				for c := range kind.Codes() {
					other := kind.Value(uint8(c), s)
					if kind.Level(uint8(c)) < lowest {
						continue // not used by choice
					}
					if d := math.Abs(float64(w) - float64(value)); math.Abs(float64(w)-float64(other)) < d*(1-1e-5) {
						t.Fatalf("%v %v: %v became %v, but %v is nearer", kind, s, w, value, other)
					}
				}
			}
		}
		if _, v := kind.Nearest(1, Step{0, -1}); v != 1 {
			t.Errorf("%v: a scale of zero gives %v", kind, v)
		}
	}
}

// Names and numbers are each other's inverse.
func TestTypes(t *testing.T) {
	for _, kind := range Types() {
		if got, ok := ParseType(kind.String()); !ok || got != kind || !kind.Known() || !kind.Converts() {
			t.Errorf("%v is not itself", kind)
		}
	}
	if _, ok := ParseType(""); ok || Type(4).Known() || Type(1<<31).Known() || Type(99).Converts() || Type(16).Converts() {
		t.Error("a type that is none")
	}
	if kind, ok := ParseType("IQ2_XXS"); !ok || kind.RowBytes(512) != 132 {
		t.Error("IQ2_XXS has no size")
	}
}

func BenchmarkDequantize(b *testing.B) {
	for _, kind := range Types() {
		b.Run(kind.String(), func(b *testing.B) {
			dst, src := make([]float32, 1<<14), make([]byte, kind.RowBytes(1<<14))
			for i := range src {
				src[i] = byte(i * 37)
			}
			b.SetBytes(1 << 14)
			for b.Loop() {
				if err := kind.Dequantize(dst, src); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*(1<<14)/b.Elapsed().Seconds()/1e6, "Mweights/s")
		})
	}
}
