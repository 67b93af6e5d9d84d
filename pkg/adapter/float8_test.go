package adapter

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// An adapter in F8_E4M3 has half of the bytes of one in F16 and nearly its product, also where a
// component's row of A and column of B have magnitudes far apart; and it is read as Float8 says.
func TestFloat8(t *testing.T) {
	cfg := loadConfig(t, adapterModel)
	a, err := Read(adapterFixture, cfg)
	if err != nil {
		t.Fatal(err)
	}
	module := "model.layers.0.self_attn.q_proj"
	w, rank := a.Modules[module], a.Config.RankOf(module)
	in, out := len(w.A)/rank, len(w.B)/rank
	for i := range in {
		w.A[i] *= 1e-4
	}
	for i := range out {
		w.B[i*rank] *= 1e3
	}
	a.Base = strings.Repeat("0a", 32)
	read := map[safetensors.DType]*Adapter{}
	for _, dtype := range []safetensors.DType{safetensors.F16, safetensors.F8E4M3} {
		a.Dir = t.TempDir()
		if err := Write(a, cfg, dtype, writeFileAt); err != nil {
			t.Fatal(err)
		}
		if read[dtype], err = Read(a.Dir, cfg); err != nil {
			t.Fatal(err)
		}
	}
	eight := read[safetensors.F8E4M3]
	if 2*eight.TensorBytes != read[safetensors.F16].TensorBytes {
		t.Errorf("%d bytes, as F16 %d", eight.TensorBytes, read[safetensors.F16].TensorBytes)
	}
	want := Float8(a.Modules, a.Config.RankOf)
	for m, w := range a.Modules {
		got, rank := eight.Modules[m], a.Config.RankOf(m)
		if eight.Config.ScaleOf(m) != a.Config.ScaleOf(m) || got.DType != safetensors.F16 {
			t.Fatalf("%s: scale %v, type %v", m, eight.Config.ScaleOf(m), got.DType)
		}
		for _, pair := range [][2][]float32{{got.A, want[m].A}, {got.B, want[m].B}} {
			for i, x := range pair[0] {
				if x != pair[1][i] {
					t.Fatalf("%s: %v is read, Float8 has %v", m, x, pair[1][i])
				}
			}
		}
		difference, norm := 0.0, 0.0
		before, after := product(w, rank), product(got, rank)
		for i, x := range before {
			difference += (x - after[i]) * (x - after[i])
			norm += x * x
		}
		// 4 bits of precision: an error of at most 1/16 of each value, 0.026 in the mean square.
		if e := math.Sqrt(difference / norm); e > 0.045 || e < 1e-4 {
			t.Errorf("%s: the product has a relative error of %.4f", m, e)
		}
	}
}

// product returns B·A.
func product(w Weights, rank int) []float64 {
	in, out := len(w.A)/rank, len(w.B)/rank
	p := make([]float64, out*in)
	for i := range out {
		for j := range rank {
			for k := range in {
				p[i*in+k] += float64(w.B[i*rank+j]) * float64(w.A[j*in+k])
			}
		}
	}
	return p
}

// Values beyond the range, and exponents that Write does not write, are refused.
func TestFloat8Refuses(t *testing.T) {
	cfg := loadConfig(t, adapterModel)
	a, err := Read(adapterFixture, cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.Dir, a.Base = t.TempDir(), strings.Repeat("0a", 32)
	if err := Write(a, cfg, safetensors.F8E4M3, writeFileAt); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(a.Dir, WeightsFile)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(sound), ExponentKey) + len(ExponentKey) + len(`":"`)
	for text, want := range map[string]string{"x": `"x" is not an exponent of -7 to 12`, "-": `"-" is not an exponent`} {
		if err := os.WriteFile(path, []byte(string(sound[:i])+text+string(sound[i+1:])), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(a.Dir, cfg); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) {
			t.Errorf("exponent %s: %v", text, err)
		}
	}
	for _, w := range a.Modules {
		w.A[0] = float32(math.Inf(1))
		break
	}
	a.Dir = t.TempDir()
	if err := Write(a, cfg, safetensors.F8E4M3, writeFileAt); err == nil || !strings.Contains(err.Error(), "is outside the range of F8_E4M3") {
		t.Errorf("an infinity: %v", err)
	}
}
