package ggml

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The weighted error of every type is below that of ggml's own quantizer with the same
// importance, and the fits are the same on every processor.
func TestFitErrors(t *testing.T) {
	digest := sha256.New()
	for r := openRecords(t, "fits.bin.gz"); len(r.data) > 0; {
		f := r.fit()
		data := f.ours(t)
		digest.Write(data)
		if ours, theirs := f.error(t, data), f.error(t, f.theirs); !(ours < theirs) {
			t.Errorf("%v: error %.6g, that of ggml is %.6g", f.kind, ours, theirs)
		}
	}
	const want = "7d7a148bc0a8e1cb57895bc6e73558af2803394c8b3aed2c80129399328ee1d8"
	if got := hex.EncodeToString(digest.Sum(nil)); got != want {
		t.Errorf("the blocks have the digest %s; on amd64 it was %s", got, want)
	}
}

// TestCompareFits prints the ratio of our weighted error to ggml's for each set of matrices that
// scripts/make_ggml_fixtures.py --fits wrote to the directory AFMQ_GGML_FITS. The errors are
// weighted by the importance given to both, by nothing, or in ggml's own way: by the importance
// and the size of the weight.
func TestCompareFits(t *testing.T) {
	dir := os.Getenv("AFMQ_GGML_FITS")
	if dir == "" {
		t.Skip("AFMQ_GGML_FITS is not set")
	}
	for _, weighting := range []string{"importance", "uniform", "own"} {
		for _, set := range []string{"normal", "tails", "model"} {
			for _, kind := range codeTypes() {
				files, err := filepath.Glob(filepath.Join(dir, "*."+weighting+"."+kind.String()+".fit"))
				if err != nil {
					t.Fatal(err)
				}
				var product, worst float64
				n := 0
				for _, name := range files {
					base := strings.SplitN(filepath.Base(name), ".", 2)[0]
					if base != set {
						continue
					}
					data, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					var ours, theirs float64
					for r := (&records{t, data}); len(r.data) > 0; {
						f := r.fit()
						ours, theirs = ours+f.error(t, f.ours(t)), theirs+f.error(t, f.theirs)
					}
					ratio := ours / theirs
					product += math.Log(ratio)
					worst = max(worst, ratio)
					n++
				}
				if n > 0 {
					t.Logf("%-10s %-6s %-6v %2d matrices: %.4f, largest %.4f", weighting, set, kind, n, math.Exp(product/float64(n)), worst)
				}
			}
		}
	}
}

func BenchmarkQuantize(b *testing.B) {
	rng := rand.New(rand.NewPCG(5, 6))
	x, w := make([]float32, 1<<12), make([]float32, 1<<12)
	for i := range x {
		x[i], w[i] = float32(rng.NormFloat64())*0.02, float32(rng.ExpFloat64())
	}
	for _, kind := range codeTypes() {
		b.Run(kind.String(), func(b *testing.B) {
			dst := make([]byte, kind.RowBytes(len(x)))
			b.ReportAllocs()
			for b.Loop() {
				if err := kind.Quantize(dst, x, w); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(len(x))/b.Elapsed().Seconds()/1e6, "Mweights/s")
		})
	}
}

// Weights of every size get finite scales and are closer to their values than to zero, and a
// block of zeros stays one.
func TestFitExtremes(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	rows := map[string]func(i int) float32{
		"zeros":           func(int) float32 { return 0 },
		"constant":        func(int) float32 { return 0.7 },
		"negative":        func(int) float32 { return -float32(rng.Float64()) - 5 },
		"positive":        func(int) float32 { return float32(rng.Float64()) + 5 },
		"one outlier":     func(i int) float32 { return float32(rng.NormFloat64()) + float32(1000*(i/(i|31))) },
		"one value":       func(i int) float32 { return float32(max(0, 1-i)) },
		"beyond fp16":     func(int) float32 { return float32(rng.NormFloat64() * 1e30) },
		"below fp16":      func(int) float32 { return float32(rng.NormFloat64() * 1e-30) },
		"subnormal scale": func(int) float32 { return float32(rng.NormFloat64() * 1e-6) },
		"largest":         func(i int) float32 { return math.MaxFloat32 * float32(1-i%2*2) },
	}
	for name, at := range rows {
		for _, kind := range codeTypes() {
			for _, weighting := range []string{"none", "zeros", "some"} {
				n := kind.BlockWeights()
				f := fit{kind: kind, rows: 1, columns: n, theirs: make([]byte, kind.BlockBytes()), x: make([]float32, n), importance: make([]float32, n)}
				for i := range f.x {
					f.x[i] = at(i)
					if weighting == "some" {
						f.importance[i] = float32(rng.ExpFloat64()) / 100 * math.MaxFloat32 / 3 * float32(i%3)
					}
				}
				w := f.importance
				if weighting == "none" {
					w = nil
				}
				if err := kind.Quantize(f.theirs, f.x, w); err != nil {
					t.Fatal(err)
				}
				y := make([]float32, n)
				if err := kind.Dequantize(y, f.theirs); err != nil {
					t.Fatal(err)
				}
				var off, all, mean float64
				for _, v := range f.importance {
					mean += float64(v) / float64(n)
				}
				for i, v := range y {
					if v != v || math.IsInf(float64(v), 0) {
						t.Fatalf("%v, %s: weight %d is %v", kind, name, i, v)
					}
					importance := 1.0
					if weighting == "some" {
						importance = float64(f.importance[i]) + 1e-6*mean
					}
					off += importance * (float64(v) - float64(f.x[i])) * (float64(v) - float64(f.x[i]))
					all += importance * float64(f.x[i]) * float64(f.x[i])
				}
				if off > all*(1+1e-9) || name == "zeros" && off > 0 {
					t.Errorf("%v, %s, importance %s: error %v of %v", kind, name, weighting, off, all)
				}
			}
		}
	}
}

// Rows of other lengths and values that are not finite are refused.
func TestQuantizeRefuses(t *testing.T) {
	nan := float32(math.NaN())
	x := make([]float32, 64)
	bad := append(make([]float32, 63), nan)
	for name, err := range map[string]error{
		"not a multiple":     Q4_K.Quantize(make([]byte, 144), x, nil),
		"take 36 bytes":      Q4_0.Quantize(make([]byte, 10), x, nil),
		"weight 63 is NaN":   Q4_0.Quantize(make([]byte, 36), bad, nil),
		"importance of":      Q4_0.Quantize(make([]byte, 36), x, bad),
		"63 importance":      Q4_0.Quantize(make([]byte, 36), x, x[:63]),
		"cannot be":          Type(16).Quantize(make([]byte, 66), make([]float32, 256), nil),
		"not 35":             Q4_0.Dequantize(x, make([]byte, 35)),
		"type 4294967295 ca": Type(math.MaxUint32).Dequantize(nil, nil),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Fields are set, read and rounded to without allocation.
func TestNoAllocation(t *testing.T) {
	x := make([]float32, 256)
	for i := range x {
		x[i] = float32(i % 17)
	}
	for _, kind := range codeTypes() {
		dst := make([]byte, kind.BlockBytes())
		if n := testing.AllocsPerRun(2, func() {
			b := Block{Type: kind}
			b.Unpack(dst)
			b.Fit(x[:kind.BlockWeights()], nil)
			for i := range kind.BlockWeights() {
				b.Codes[i], _ = kind.Nearest(x[i], b.Step(i/kind.PartWeights()))
			}
			b.Pack(dst)
		}); n > 0 {
			t.Errorf("%v: %v allocations", kind, n)
		}
	}
}

// Values that F16 and BF16 hold are kept, others are rounded to the nearest.
func TestQuantizeFloats(t *testing.T) {
	x := []float32{0, -1.5, 65504, 0x1p-24, 1 + 0x1p-11, 1 + 3*0x1p-11, 1e6}
	for kind, want := range map[Type][]float32{
		F32:  x,
		F16:  {0, -1.5, 65504, 0x1p-24, 1, 1 + 0x1p-9, float32(math.Inf(1))},
		BF16: {0, -1.5, 65536, 0x1p-24, 1, 1, 999424},
	} {
		data, got := make([]byte, kind.RowBytes(len(x))), make([]float32, len(x))
		if err := kind.Quantize(data, x, nil); err != nil {
			t.Fatal(err)
		}
		if err := kind.Dequantize(got, data); err != nil {
			t.Fatal(err)
		}
		for i := range x {
			if got[i] != want[i] {
				t.Errorf("%v: %v became %v, not %v", kind, x[i], got[i], want[i])
			}
		}
	}
}
