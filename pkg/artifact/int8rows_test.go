package artifact

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/safetensors"
)

// openMatrix stores values [rows, cols] in a file and maps it.
func openMatrix(t testing.TB, dtype safetensors.DType, rows, cols int, v []float32) *safetensors.Tensor {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.safetensors")
	w, err := safetensors.Create(path, []safetensors.Info{{Name: "w", DType: dtype, Shape: []int{rows, cols}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write("w", floatBytes(dtype, v)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	x, _ := f.Tensor("w")
	return x
}

func pool(t testing.TB, threads int) *compute.Pool {
	p := compute.NewPool(threads)
	t.Cleanup(p.Close)
	return p
}

// floatBytes returns values in a type of safetensors.
func floatBytes(dtype safetensors.DType, v []float32) (out []byte) {
	for _, x := range v {
		switch dtype {
		case safetensors.F32:
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
		case safetensors.BF16:
			out = binary.LittleEndian.AppendUint16(out, uint16(math.Float32bits(x)>>16))
		default:
			half := make([]uint16, 1)
			kernel.F32ToF16(half, []float32{x})
			out = binary.LittleEndian.AppendUint16(out, half[0])
		}
	}
	return out
}

// The definition in float64: every value is within scale/2 of q·scale, the largest value of a
// row is ±127, and the scale is absmax/127 in float32.
func TestQuantizeRows(t *testing.T) {
	const rows, cols = 131, 37
	v := make([]float32, rows*cols)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range v {
		v[i] = float32(rng.NormFloat64() * math.Exp2(float64(i/cols%30)-15))
	}
	for _, dtype := range []safetensors.DType{safetensors.F16, safetensors.BF16, safetensors.F32} {
		x := openMatrix(t, dtype, rows, cols, v)
		w := make([]float32, rows*cols)
		if err := x.Float32(w, 0); err != nil {
			t.Fatal(err)
		}
		q, scale, sqErr, sqNorm, err := QuantizeRows(pool(t, 1), x)
		if err != nil {
			t.Fatal(err)
		}
		var wantErr, wantNorm float64
		for r := range rows {
			top, topQ := 0.0, 0
			for c := range cols {
				top = max(top, math.Abs(float64(w[r*cols+c])))
			}
			if want := float32(float32(top) / 127); scale[r] != want {
				t.Fatalf("%v: scale of row %d is %v, want %v", dtype, r, scale[r], want)
			}
			for c := range cols {
				i := r*cols + c
				k := int(int8(q[i]))
				d := float64(w[i]) - float64(k)*float64(scale[r])
				if math.Abs(d) > 0.5001*float64(scale[r]) {
					t.Fatalf("%v: %v at row %d became %d·%v", dtype, w[i], r, k, scale[r])
				}
				wantErr += d * d
				wantNorm += float64(w[i]) * float64(w[i])
				topQ = max(topQ, k, -k)
			}
			if topQ != 127 {
				t.Fatalf("%v: the largest of row %d is %d", dtype, r, topQ)
			}
		}
		if math.Abs(sqErr/wantErr-1) > 1e-12 || math.Abs(sqNorm/wantNorm-1) > 1e-12 {
			t.Errorf("%v: errors %v and %v, want %v and %v", dtype, sqErr, sqNorm, wantErr, wantNorm)
		}
		q3, scale3, sqErr3, sqNorm3, err := QuantizeRows(pool(t, 3), x)
		if err != nil || !bytes.Equal(q3, q) || !bytes.Equal(floatBytes(safetensors.F32, scale3), floatBytes(safetensors.F32, scale)) || sqErr3 != sqErr || sqNorm3 != sqNorm {
			t.Errorf("%v: three threads give something else than one (%v)", dtype, err)
		}
	}
}

func TestQuantizeRowCases(t *testing.T) {
	tiny := math.Float32frombits(1) // the smallest subnormal
	for _, c := range []struct {
		name  string
		row   []float32
		scale float32
		q     []int8
	}{
		{"zeros", []float32{0, float32(math.Copysign(0, -1)), 0}, 0, []int8{0, 0, 0}},
		{"ties to even", []float32{127, 0.5, 1.5, -2.5, 3.5, -126.5}, 1, []int8{127, 0, 2, -2, 4, -126}},
		{"negative largest", []float32{1, -254}, 2, []int8{0, -127}},
		{"scale underflows", []float32{tiny, -tiny}, 0, []int8{0, 0}},
		{"scale is subnormal", []float32{190 * tiny, -tiny}, tiny, []int8{127, -1}},
		{"largest float", []float32{math.MaxFloat32, -math.MaxFloat32}, math.MaxFloat32 / 127, []int8{127, -127}},
	} {
		q := make([]byte, len(c.row))
		scale, _, _, bad := quantizeRow(q, c.row)
		if bad >= 0 || scale != c.scale {
			t.Errorf("%s: scale %v, bad %d, want %v", c.name, scale, bad, c.scale)
		}
		for i := range q {
			if int8(q[i]) != c.q[i] {
				t.Errorf("%s: value %d is %d, want %d", c.name, i, int8(q[i]), c.q[i])
			}
		}
	}
	for i, x := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		row := []float32{1, 2, 3, 4}
		row[i] = x
		if _, _, _, bad := quantizeRow(make([]byte, 4), row); bad != i {
			t.Errorf("%v at %d: reported at %d", x, i, bad)
		}
	}
}

func BenchmarkQuantizeRows(b *testing.B) {
	const rows, cols = 4096, 1024
	v := make([]float32, rows*cols)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	x := openMatrix(b, safetensors.F16, rows, cols, v)
	pool := compute.NewPool(1)
	defer pool.Close()
	b.SetBytes(2 * rows * cols)
	for b.Loop() {
		if _, _, _, _, err := QuantizeRows(pool, x); err != nil {
			b.Fatal(err)
		}
	}
}
