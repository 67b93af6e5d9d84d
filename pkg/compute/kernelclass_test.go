package compute

import (
	"testing"

	"afmq/internal/kernel"
)

// The classes follow the documentation of internal/kernel.
func TestKernelClass(t *testing.T) {
	for _, c := range []struct {
		level string
		a     Arithmetic
		has   bool
		want  string
	}{
		{"generic", F32, true, "generic"},
		{"generic", I16, true, "generic"},
		{"generic", BF16, true, "generic"},
		{"generic", Split, true, "generic"},
		{"avx2", F32, true, "vector"},
		{"avx512", F32, true, "vector"},
		{"amx", F32, true, "vector"},
		{"neon", F32, true, "vector"},
		{"avx512", I16, true, "vector"},
		{"amx", I16, true, "vector"},
		{"avx512", I16, false, "avx512"}, // without VNNI
		{"avx2", I16, false, "avx2"},
		{"avx2", BF16, true, "avx2"},
		{"avx512", BF16, true, "avx512"},
		{"amx", BF16, true, "amx"},
		{"amx", Split, true, "amx"},
	} {
		if got := kernelClass(c.level, c.a, c.has); got != c.want {
			t.Errorf("%v on %s, available %v: %q, want %q", c.a, c.level, c.has, got, c.want)
		}
	}
}

// Levels of equal class give the same bits.
func TestKernelClassGivesEqualBits(t *testing.T) {
	const m, rows, cols = 5, 48, 600
	w, x := make([]float32, rows*cols), make([]float32, m*cols)
	for i := range w {
		w[i] = float32((i*7919)%1009)/1009 - 0.5
	}
	for i := range x {
		x[i] = float32((i*104729)%2003)/2003 - 0.5
	}
	level := kernel.Level()
	defer kernel.SelectLevel(level)
	for _, a := range []Arithmetic{F32, BF16} {
		first := map[string][]float32{}
		for _, l := range kernel.Levels() {
			if err := kernel.SelectLevel(l); err != nil {
				t.Fatal(err)
			}
			pool := NewPool(1).With(a)
			y := make([]float32, m*rows)
			pool.MulT(y, x, m, PackF32(rows, cols, w))
			pool.Close()
			want, ok := first[KernelClass(a)]
			if !ok {
				first[KernelClass(a)] = y
				continue
			}
			for i := range y {
				if y[i] != want[i] {
					t.Fatalf("%v, level %s: element %d is %v, another level of class %s has %v", a, l, i, y[i], KernelClass(a), want[i])
				}
			}
		}
	}
}
