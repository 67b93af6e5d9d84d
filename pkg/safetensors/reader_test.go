package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"afmq/pkg/fault"

	"github.com/x448/float16"
)

// checkViews compares the typed view of x, and its float32 values, with its bytes.
func checkViews(t testing.TB, x *Tensor) {
	switch x.DType {
	case F64:
		checkView[float64](t, x)
	case F32:
		checkView[float32](t, x)
	case F16, BF16, U16:
		checkView[uint16](t, x)
	case I8:
		checkView[int8](t, x)
	case I16:
		checkView[int16](t, x)
	case I32:
		checkView[int32](t, x)
	case I64:
		checkView[int64](t, x)
	case U8, BOOL, F8E4M3, F8E5M2:
		checkView[uint8](t, x)
	case U32:
		checkView[uint32](t, x)
	case U64:
		checkView[uint64](t, x)
	}
	if err := x.Float32(make([]float32, x.NumElements()), 0); err != nil {
		t.Errorf("%q: %v", x.Name, err)
	}
}

func checkView[T Element](t testing.TB, x *Tensor) {
	v, err := View[T](x)
	if err != nil {
		t.Errorf("%q: %v", x.Name, err)
		return
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, v); err != nil || len(v) != x.NumElements() || !bytes.Equal(b.Bytes(), x.Bytes()) {
		t.Errorf("%q: the view has %d of %d elements, or other bytes", x.Name, len(v), x.NumElements())
	}
}

// file writes tensors to a temporary file and opens it.
func file(t testing.TB, infos []Info, data ...[]byte) *File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.safetensors")
	writeFile(t, path, infos, data...)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func writeFile(t testing.TB, path string, infos []Info, data ...[]byte) {
	t.Helper()
	w, err := Create(path, infos, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range infos {
		if err := w.Write(x.Name, data[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestViewCopiesOnlyWhatIsUnaligned(t *testing.T) {
	f := file(t, []Info{{"a", F32, []int{2}}, {"odd", U8, []int{1}}, {"b", F32, []int{2}}},
		make([]byte, 8), []byte{1}, []byte{0, 0, 128, 63, 0, 0, 0, 64})
	a, _ := f.Tensor("a")
	va, err := View[float32](a)
	if err != nil || unsafe.Pointer(&va[0]) != unsafe.Pointer(&a.Bytes()[0]) {
		t.Errorf("an aligned tensor was copied (%v)", err)
	}
	b, _ := f.Tensor("b")
	vb, err := View[float32](b)
	if err != nil || unsafe.Pointer(&vb[0]) == unsafe.Pointer(&b.Bytes()[0]) || vb[0] != 1 || vb[1] != 2 {
		t.Errorf("unaligned tensor: %v, %v", vb, err)
	}
}

func TestViewRefusesOtherTypes(t *testing.T) {
	f := file(t, []Info{{"w", BF16, []int{4}}, {"b", BOOL, []int{3}}}, make([]byte, 8), []byte{0, 1, 2})
	w, _ := f.Tensor("w")
	if _, err := View[float32](w); err == nil || fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), `tensor "w": type is BF16, expected float32`) {
		t.Error(err)
	}
	if _, err := View[int16](w); err == nil {
		t.Error("BF16 seen as int16")
	}
	b, _ := f.Tensor("b")
	if _, err := View[bool](b); err == nil || !strings.Contains(err.Error(), `tensor "b": element 2 is 2; a BOOL is 0 or 1`) {
		t.Error(err)
	}
	if v, err := View[uint8](b); err != nil || v[2] != 2 {
		t.Error(v, err)
	}
}

func TestSwap(t *testing.T) {
	b := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	if swap(b, 4); !bytes.Equal(b, []byte{4, 3, 2, 1, 8, 7, 6, 5}) {
		t.Error(b)
	}
}

// Every half-precision number converts as in an independent library.
func TestHalf(t *testing.T) {
	for i := range 1 << 16 {
		got, want := half(uint16(i)), float16.Frombits(uint16(i)).Float32()
		if math.Float32bits(got) != math.Float32bits(want) && !(got != got && want != want) {
			t.Fatalf("%04x: %v, want %v", i, got, want)
		}
		if got != got && math.Float32bits(got)&0x00400000 == 0 {
			t.Fatalf("%04x: a signalling NaN", i)
		}
	}
}

// 64-bit integers are rounded once, to nearest even.
func TestFloat32Rounding(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var u []uint64
	for range 20000 {
		v := rng.Uint64() >> rng.UintN(40)
		if rng.UintN(2) == 0 { // near a tie
			v = v&^(1<<40-1) | 1<<39 | rng.Uint64N(3)
		}
		u = append(u, v)
	}
	data := make([]byte, 8*len(u))
	for i, v := range u {
		binary.LittleEndian.PutUint64(data[8*i:], v)
	}
	f := file(t, []Info{{"u", U64, []int{len(u)}}, {"i", I64, []int{len(u)}}}, data, data)
	for _, name := range []string{"u", "i"} {
		x, _ := f.Tensor(name)
		got := make([]float32, len(u))
		if err := x.Float32(got, 0); err != nil {
			t.Fatal(err)
		}
		for i, v := range u {
			n := new(big.Float).SetUint64(v)
			if name == "i" {
				n.SetInt64(int64(v))
			}
			if want, _ := n.Float32(); got[i] != want {
				t.Fatalf("%s %d: %v, want %v", name, v, got[i], want)
			}
		}
	}
}

func TestFloat32Ranges(t *testing.T) {
	f := file(t, []Info{{"w", I8, []int{2, 3}}}, []byte{0, 1, 2, 3, 4, 255})
	w, _ := f.Tensor("w")
	for _, c := range []struct {
		start, n int
		ok       bool
	}{{0, 6, true}, {4, 2, true}, {6, 0, true}, {0, 0, true}, {5, 2, false}, {7, 0, false}, {-1, 2, false}, {math.MaxInt, 1, false}} {
		dst := make([]float32, c.n)
		if err := w.Float32(dst, c.start); (err == nil) != c.ok {
			t.Errorf("[%d,+%d): %v", c.start, c.n, err)
		} else if c.ok && c.start == 4 && (dst[0] != 4 || dst[1] != -1) {
			t.Errorf("[4,6) = %v", dst)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "absent"), dir, os.DevNull} {
		_, err := Open(path)
		if err == nil || fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%s: %v", path, err)
		}
	}
	path := filepath.Join(dir, "w")
	writeFile(t, path, []Info{{"w", U8, []int{4}}}, []byte("data"))
	for n := range 20 { // no file of that name reaches a mapping twice
		f, err := Open(path)
		if err != nil {
			t.Fatal(n, err)
		}
		for range 2 { // the second time does nothing
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	live.Lock()
	defer live.Unlock()
	for m := range live.set {
		if m.path == path {
			t.Error("a closed file is still mapped")
		}
	}
}

func TestString(t *testing.T) {
	for d := DType(0); d < F8E5M2+3; d++ {
		known := d >= F64 && d <= F8E5M2
		if got := d.String(); strings.HasPrefix(got, "DType(") == known || (d.Size() > 0) != known {
			t.Errorf("%d: %q, %d bytes", uint8(d), got, d.Size())
		}
	}
}

func BenchmarkFloat32(b *testing.B) {
	const n = 1 << 20
	for _, d := range []DType{F32, F16, BF16} {
		f := file(b, []Info{{"w", d, []int{n}}}, make([]byte, n*d.Size()))
		x, _ := f.Tensor("w")
		dst := make([]float32, n)
		b.Run(fmt.Sprint(d), func(b *testing.B) {
			b.SetBytes(int64(n * d.Size()))
			for b.Loop() {
				if err := x.Float32(dst, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The nearest float of 8 bits is found as by trying all.
func TestE4M3(t *testing.T) {
	values := make([]float64, 0x7f)
	for i := range values {
		values[i] = float64(FromE4M3(byte(i)))
	}
	nearest := func(v float64) byte {
		best := byte(0)
		for i, x := range values {
			d, least := math.Abs(x-v), math.Abs(values[best]-v)
			if d < least || d == least && i%2 == 0 {
				best = byte(i)
			}
		}
		return best
	}
	check := func(v float32, want byte) {
		if got := E4M3(v); got != want {
			t.Errorf("%v: %#x, want %#x", v, got, want)
		}
		if got := E4M3(-v); got != want|0x80 {
			t.Errorf("%v: %#x, want %#x", -v, got, want|0x80)
		}
	}
	for i, x := range values {
		check(float32(x), byte(i))
		if i+1 < len(values) {
			middle := float32((x + values[i+1]) / 2)
			for _, v := range []float32{middle, math.Nextafter32(middle, 0), math.Nextafter32(middle, 1e9), float32(x + (values[i+1]-x)/3)} {
				check(v, nearest(float64(v)))
			}
		}
	}
	check(463.9, 0x7e)
	check(464, 0x7e)
	check(464.1, 0x7f)
	check(float32(math.Inf(1)), 0x7f)
	check(1e-20, 0)
}
